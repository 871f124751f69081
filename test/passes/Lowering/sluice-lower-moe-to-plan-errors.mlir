// RUN: sluice-opt --sluice-lower-moe-to-plan %s -verify-diagnostics -split-input-file

// expected-error @below {{cannot plan: module attribute 'plan.buckets' is missing; run --sluice-choose-buckets first}}
module attributes {moe.model = {name = "t", family = "mixtral", vocab_size = 16 : i64, hidden_size = 8 : i64, num_layers = 1 : i64, num_experts = 4 : i64, top_k = 2 : i64, max_position = 64 : i64, eos_token_ids = array<i64: 2>, bos_token_id = 1 : i64, total_parameters = 1 : i64, active_parameters = 1 : i64}, moe.limits = {max_batch_tokens = 8 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 16 : i64}} {
moe.weight @embed : tensor<16x8xf32> = #moe.source<"e" in "f" : tensor<16x8xf32>>
func.func @rank0(%ids: tensor<?xi32>, %b: !moe.batch) -> (tensor<?x16xf32>, tensor<?xi32>) attributes {moe.rank = 0 : i64} {
  %h = moe.embedding %ids table @embed : tensor<?xi32> -> tensor<?x8xf32>
  %s = moe.select_rows %h of %b : tensor<?x8xf32> -> tensor<?x8xf32>
  %l = moe.linear %s weight @embed : tensor<?x8xf32> -> tensor<?x16xf32>
  %t = moe.sample %l by %b : tensor<?x16xf32> -> tensor<?xi32>
  return %l, %t : tensor<?x16xf32>, tensor<?xi32>
}
}

// -----

// expected-error @below {{cannot plan: module attribute 'moe.model' is missing}}
module attributes {moe.limits = {max_batch_tokens = 8 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 16 : i64}, plan.buckets = array<i64: 8>} {
moe.weight @embed : tensor<16x8xf32> = #moe.source<"e" in "f" : tensor<16x8xf32>>
func.func @rank0(%ids: tensor<?xi32>, %b: !moe.batch) -> (tensor<?x16xf32>, tensor<?xi32>) attributes {moe.rank = 0 : i64} {
  %h = moe.embedding %ids table @embed : tensor<?xi32> -> tensor<?x8xf32>
  %s = moe.select_rows %h of %b : tensor<?x8xf32> -> tensor<?x8xf32>
  %l = moe.linear %s weight @embed : tensor<?x8xf32> -> tensor<?x16xf32>
  %t = moe.sample %l by %b : tensor<?x16xf32> -> tensor<?xi32>
  return %l, %t : tensor<?x16xf32>, tensor<?xi32>
}
}

// -----

// expected-error @below {{cannot plan: module attribute 'moe.limits' is missing}}
module attributes {moe.model = {name = "t", family = "mixtral", vocab_size = 16 : i64, hidden_size = 8 : i64, num_layers = 1 : i64, num_experts = 4 : i64, top_k = 2 : i64, max_position = 64 : i64, eos_token_ids = array<i64: 2>, bos_token_id = 1 : i64, total_parameters = 1 : i64, active_parameters = 1 : i64}, plan.buckets = array<i64: 8>} {
moe.weight @embed : tensor<16x8xf32> = #moe.source<"e" in "f" : tensor<16x8xf32>>
func.func @rank0(%ids: tensor<?xi32>, %b: !moe.batch) -> (tensor<?x16xf32>, tensor<?xi32>) attributes {moe.rank = 0 : i64} {
  %h = moe.embedding %ids table @embed : tensor<?xi32> -> tensor<?x8xf32>
  %s = moe.select_rows %h of %b : tensor<?x8xf32> -> tensor<?x8xf32>
  %l = moe.linear %s weight @embed : tensor<?x8xf32> -> tensor<?x16xf32>
  %t = moe.sample %l by %b : tensor<?x16xf32> -> tensor<?xi32>
  return %l, %t : tensor<?x16xf32>, tensor<?xi32>
}
}

// -----

// expected-error @below {{cannot plan: the largest bucket has 4 tokens, but max_batch_tokens = 8}}
module attributes {moe.model = {name = "t", family = "mixtral", vocab_size = 16 : i64, hidden_size = 8 : i64, num_layers = 1 : i64, num_experts = 4 : i64, top_k = 2 : i64, max_position = 64 : i64, eos_token_ids = array<i64: 2>, bos_token_id = 1 : i64, total_parameters = 1 : i64, active_parameters = 1 : i64}, moe.limits = {max_batch_tokens = 8 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 16 : i64}, plan.buckets = array<i64: 4>} {
moe.weight @embed : tensor<16x8xf32> = #moe.source<"e" in "f" : tensor<16x8xf32>>
func.func @rank0(%ids: tensor<?xi32>, %b: !moe.batch) -> (tensor<?x16xf32>, tensor<?xi32>) attributes {moe.rank = 0 : i64} {
  %h = moe.embedding %ids table @embed : tensor<?xi32> -> tensor<?x8xf32>
  %s = moe.select_rows %h of %b : tensor<?x8xf32> -> tensor<?x8xf32>
  %l = moe.linear %s weight @embed : tensor<?x8xf32> -> tensor<?x16xf32>
  %t = moe.sample %l by %b : tensor<?x16xf32> -> tensor<?xi32>
  return %l, %t : tensor<?x16xf32>, tensor<?xi32>
}
}

// -----

// expected-error @below {{cannot plan: a limit in 'moe.limits' exceeds 2147483647}}
module attributes {moe.model = {name = "t", family = "mixtral", vocab_size = 16 : i64, hidden_size = 8 : i64, num_layers = 1 : i64, num_experts = 4 : i64, top_k = 2 : i64, max_position = 64 : i64, eos_token_ids = array<i64: 2>, bos_token_id = 1 : i64, total_parameters = 1 : i64, active_parameters = 1 : i64}, moe.limits = {max_batch_tokens = 8 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4294967296 : i64}, plan.buckets = array<i64: 8>} {
moe.weight @embed : tensor<16x8xf32> = #moe.source<"e" in "f" : tensor<16x8xf32>>
func.func @rank0(%ids: tensor<?xi32>, %b: !moe.batch) -> (tensor<?x16xf32>, tensor<?xi32>) attributes {moe.rank = 0 : i64} {
  %h = moe.embedding %ids table @embed : tensor<?xi32> -> tensor<?x8xf32>
  %s = moe.select_rows %h of %b : tensor<?x8xf32> -> tensor<?x8xf32>
  %l = moe.linear %s weight @embed : tensor<?x8xf32> -> tensor<?x16xf32>
  %t = moe.sample %l by %b : tensor<?x16xf32> -> tensor<?xi32>
  return %l, %t : tensor<?x16xf32>, tensor<?xi32>
}
}

// -----

// expected-error @below {{cannot plan: the module has no function of a rank}}
module attributes {moe.model = {name = "t", family = "mixtral", vocab_size = 16 : i64, hidden_size = 8 : i64, num_layers = 1 : i64, num_experts = 4 : i64, top_k = 2 : i64, max_position = 64 : i64, eos_token_ids = array<i64: 2>, bos_token_id = 1 : i64, total_parameters = 1 : i64, active_parameters = 1 : i64}, moe.limits = {max_batch_tokens = 8 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 16 : i64}, plan.buckets = array<i64: 8>} {
moe.weight @embed : tensor<16x8xf32> = #moe.source<"e" in "f" : tensor<16x8xf32>>
}

// -----

module attributes {moe.model = {name = "t", family = "mixtral", vocab_size = 16 : i64, hidden_size = 8 : i64, num_layers = 1 : i64, num_experts = 4 : i64, top_k = 2 : i64, max_position = 64 : i64, eos_token_ids = array<i64: 2>, bos_token_id = 1 : i64, total_parameters = 1 : i64, active_parameters = 1 : i64}, moe.limits = {max_batch_tokens = 8 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 16 : i64}, plan.buckets = array<i64: 8>} {
moe.weight @embed : tensor<16x8xf32> = #moe.source<"e" in "f" : tensor<16x8xf32>>
// expected-error @below {{belongs to no rank: attribute 'moe.rank' is missing}}
func.func @rank0(%ids: tensor<?xi32>, %b: !moe.batch) -> (tensor<?x16xf32>, tensor<?xi32>) {
  %h = moe.embedding %ids table @embed : tensor<?xi32> -> tensor<?x8xf32>
  %s = moe.select_rows %h of %b : tensor<?x8xf32> -> tensor<?x8xf32>
  %l = moe.linear %s weight @embed : tensor<?x8xf32> -> tensor<?x16xf32>
  %t = moe.sample %l by %b : tensor<?x16xf32> -> tensor<?xi32>
  return %l, %t : tensor<?x16xf32>, tensor<?xi32>
}
}

// -----

module attributes {moe.model = {name = "t", family = "mixtral", vocab_size = 16 : i64, hidden_size = 8 : i64, num_layers = 1 : i64, num_experts = 4 : i64, top_k = 2 : i64, max_position = 64 : i64, eos_token_ids = array<i64: 2>, bos_token_id = 1 : i64, total_parameters = 1 : i64, active_parameters = 1 : i64}, moe.limits = {max_batch_tokens = 8 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 16 : i64}, plan.buckets = array<i64: 8>} {
// expected-error @below {{must be a single block of the form}}
func.func @rank0(%x: tensor<?x8xf32>) attributes {moe.rank = 0 : i64} {
  return
}
}

// -----

module attributes {moe.model = {name = "t", family = "mixtral", vocab_size = 16 : i64, hidden_size = 8 : i64, num_layers = 1 : i64, num_experts = 4 : i64, top_k = 2 : i64, max_position = 64 : i64, eos_token_ids = array<i64: 2>, bos_token_id = 1 : i64, total_parameters = 1 : i64, active_parameters = 1 : i64}, moe.limits = {max_batch_tokens = 8 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 16 : i64}, plan.buckets = array<i64: 8>} {
moe.weight @embed : tensor<16x8xf32> = #moe.source<"e" in "f" : tensor<16x8xf32>>
// expected-error @below {{must return the result of a moe.linear as its logits}}
func.func @rank0(%ids: tensor<?xi32>, %b: !moe.batch) -> (tensor<?x16xf32>, tensor<?xi32>) attributes {moe.rank = 0 : i64} {
  %h = moe.embedding %ids table @embed : tensor<?xi32> -> tensor<?x8xf32>
  %s = moe.select_rows %h of %b : tensor<?x8xf32> -> tensor<?x8xf32>
  %l = moe.linear %s weight @embed : tensor<?x8xf32> -> tensor<?x16xf32>
  %t = moe.sample %l by %b : tensor<?x16xf32> -> tensor<?xi32>
  %n = moe.norm l2 %l eps 1.0e-06 : tensor<?x16xf32>
  return %n, %t : tensor<?x16xf32>, tensor<?xi32>
}
}

// -----

module attributes {moe.model = {name = "t", family = "mixtral", vocab_size = 16 : i64, hidden_size = 8 : i64, num_layers = 1 : i64, num_experts = 4 : i64, top_k = 2 : i64, max_position = 64 : i64, eos_token_ids = array<i64: 2>, bos_token_id = 1 : i64, total_parameters = 1 : i64, active_parameters = 1 : i64}, moe.limits = {max_batch_tokens = 8 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 16 : i64}, plan.buckets = array<i64: 8>} {
moe.weight @embed : tensor<16x8xf32> = #moe.source<"e" in "f" : tensor<16x8xf32>>
// expected-error @below {{must return the result of a moe.sample as its sampled ids}}
func.func @rank0(%ids: tensor<?xi32>, %b: !moe.batch) -> (tensor<?x16xf32>, tensor<?xi32>) attributes {moe.rank = 0 : i64} {
  %h = moe.embedding %ids table @embed : tensor<?xi32> -> tensor<?x8xf32>
  %s = moe.select_rows %h of %b : tensor<?x8xf32> -> tensor<?x8xf32>
  %l = moe.linear %s weight @embed : tensor<?x8xf32> -> tensor<?x16xf32>
  %t = moe.sample %l by %b : tensor<?x16xf32> -> tensor<?xi32>
  return %l, %ids : tensor<?x16xf32>, tensor<?xi32>
}
}

// -----

// Operations that fusion replaces.
module attributes {moe.model = {name = "t", family = "mixtral", vocab_size = 16 : i64, hidden_size = 8 : i64, num_layers = 1 : i64, num_experts = 4 : i64, top_k = 2 : i64, max_position = 64 : i64, eos_token_ids = array<i64: 2>, bos_token_id = 1 : i64, total_parameters = 1 : i64, active_parameters = 1 : i64}, moe.limits = {max_batch_tokens = 8 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 16 : i64}, plan.buckets = array<i64: 8>} {
moe.weight @embed : tensor<16x8xf32> = #moe.source<"e" in "f" : tensor<16x8xf32>>
func.func @rank0(%ids: tensor<?xi32>, %b: !moe.batch) -> (tensor<?x16xf32>, tensor<?xi32>) attributes {moe.rank = 0 : i64} {
  %h = moe.embedding %ids table @embed : tensor<?xi32> -> tensor<?x8xf32>
  // expected-error @below {{'moe.rope' op has no kernel of its own; run --sluice-fuse-qkv or --sluice-fuse-latent-attention before lowering}}
  %r = moe.rope %h at %b heads 1 rope <dim = 8, base = 1.0e+04> : tensor<?x8xf32>
  %s = moe.select_rows %h of %b : tensor<?x8xf32> -> tensor<?x8xf32>
  %l = moe.linear %s weight @embed : tensor<?x8xf32> -> tensor<?x16xf32>
  %t = moe.sample %l by %b : tensor<?x16xf32> -> tensor<?xi32>
  return %l, %t : tensor<?x16xf32>, tensor<?xi32>
}
}

// -----

module attributes {moe.model = {name = "t", family = "mixtral", vocab_size = 16 : i64, hidden_size = 8 : i64, num_layers = 1 : i64, num_experts = 4 : i64, top_k = 2 : i64, max_position = 64 : i64, eos_token_ids = array<i64: 2>, bos_token_id = 1 : i64, total_parameters = 1 : i64, active_parameters = 1 : i64}, moe.limits = {max_batch_tokens = 8 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 16 : i64}, plan.buckets = array<i64: 8>} {
moe.weight @embed : tensor<16x8xf32> = #moe.source<"e" in "f" : tensor<16x8xf32>>
func.func @rank0(%ids: tensor<?xi32>, %b: !moe.batch) -> (tensor<?x16xf32>, tensor<?xi32>) attributes {moe.rank = 0 : i64} {
  %h = moe.embedding %ids table @embed : tensor<?xi32> -> tensor<?x8xf32>
  // expected-error @below {{'moe.clamp' op has no kernel of its own; run --sluice-fuse-qkv before lowering}}
  %r = moe.clamp %h to 8.0 : tensor<?x8xf32>
  %s = moe.select_rows %h of %b : tensor<?x8xf32> -> tensor<?x8xf32>
  %l = moe.linear %s weight @embed : tensor<?x8xf32> -> tensor<?x16xf32>
  %t = moe.sample %l by %b : tensor<?x16xf32> -> tensor<?xi32>
  return %l, %t : tensor<?x16xf32>, tensor<?xi32>
}
}

// -----

module attributes {moe.model = {name = "t", family = "mixtral", vocab_size = 16 : i64, hidden_size = 8 : i64, num_layers = 1 : i64, num_experts = 4 : i64, top_k = 2 : i64, max_position = 64 : i64, eos_token_ids = array<i64: 2>, bos_token_id = 1 : i64, total_parameters = 1 : i64, active_parameters = 1 : i64}, moe.limits = {max_batch_tokens = 8 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 16 : i64}, plan.buckets = array<i64: 8>} {
moe.weight @embed : tensor<16x8xf32> = #moe.source<"e" in "f" : tensor<16x8xf32>>
moe.kv_cache @kv heads 1 key 8 value 8 : f32
func.func @rank0(%ids: tensor<?xi32>, %b: !moe.batch) -> (tensor<?x16xf32>, tensor<?xi32>) attributes {moe.rank = 0 : i64} {
  %h = moe.embedding %ids table @embed : tensor<?xi32> -> tensor<?x8xf32>
  // expected-error @below {{'moe.cache_append' op has no kernel of its own; run --sluice-fuse-qkv or --sluice-fuse-latent-attention before lowering}}
  moe.cache_append %h, %h to @kv at %b : tensor<?x8xf32>, tensor<?x8xf32>
  %s = moe.select_rows %h of %b : tensor<?x8xf32> -> tensor<?x8xf32>
  %l = moe.linear %s weight @embed : tensor<?x8xf32> -> tensor<?x16xf32>
  %t = moe.sample %l by %b : tensor<?x16xf32> -> tensor<?xi32>
  return %l, %t : tensor<?x16xf32>, tensor<?xi32>
}
}

// -----

module attributes {moe.model = {name = "t", family = "mixtral", vocab_size = 16 : i64, hidden_size = 8 : i64, num_layers = 1 : i64, num_experts = 4 : i64, top_k = 2 : i64, max_position = 64 : i64, eos_token_ids = array<i64: 2>, bos_token_id = 1 : i64, total_parameters = 1 : i64, active_parameters = 1 : i64}, moe.limits = {max_batch_tokens = 8 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 16 : i64}, plan.buckets = array<i64: 8>} {
moe.weight @embed : tensor<16x8xf32> = #moe.source<"e" in "f" : tensor<16x8xf32>>
moe.weight @r : tensor<4x8xf32> = #moe.source<"r" in "f" : tensor<4x8xf32>>
func.func @rank0(%ids: tensor<?xi32>, %b: !moe.batch) -> (tensor<?x16xf32>, tensor<?xi32>) attributes {moe.rank = 0 : i64} {
  %h = moe.embedding %ids table @embed : tensor<?xi32> -> tensor<?x8xf32>
  %g = moe.linear %h weight @r : tensor<?x8xf32> -> tensor<?x4xf32>
  // expected-error @below {{'moe.route' op has no kernel of its own; run --sluice-fuse-router before lowering}}
  %i, %w = moe.route %g routing <softmax, top_k = 2> : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %s = moe.select_rows %h of %b : tensor<?x8xf32> -> tensor<?x8xf32>
  %l = moe.linear %s weight @embed : tensor<?x8xf32> -> tensor<?x16xf32>
  %t = moe.sample %l by %b : tensor<?x16xf32> -> tensor<?xi32>
  return %l, %t : tensor<?x16xf32>, tensor<?xi32>
}
}

// -----

module attributes {moe.model = {name = "t", family = "mixtral", vocab_size = 16 : i64, hidden_size = 8 : i64, num_layers = 1 : i64, num_experts = 4 : i64, top_k = 2 : i64, max_position = 64 : i64, eos_token_ids = array<i64: 2>, bos_token_id = 1 : i64, total_parameters = 1 : i64, active_parameters = 1 : i64}, moe.limits = {max_batch_tokens = 8 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 16 : i64}, plan.buckets = array<i64: 8>} {
moe.weight @embed : tensor<16x8xf32> = #moe.source<"e" in "f" : tensor<16x8xf32>>
moe.weight @d : tensor<8x16xf32> = #moe.source<"d" in "f" : tensor<8x16xf32>>
func.func @rank0(%ids: tensor<?xi32>, %b: !moe.batch) -> (tensor<?x16xf32>, tensor<?xi32>) attributes {moe.rank = 0 : i64} {
  %h = moe.embedding %ids table @embed : tensor<?xi32> -> tensor<?x8xf32>
  // expected-error @below {{'moe.ffn' op has no kernel of its own; run --sluice-fuse-experts before lowering}}
  %g = moe.ffn %h gate @embed up @embed down @d activation <silu> : tensor<?x8xf32> -> tensor<?x8xf32>
  %s = moe.select_rows %h of %b : tensor<?x8xf32> -> tensor<?x8xf32>
  %l = moe.linear %s weight @embed : tensor<?x8xf32> -> tensor<?x16xf32>
  %t = moe.sample %l by %b : tensor<?x16xf32> -> tensor<?xi32>
  return %l, %t : tensor<?x16xf32>, tensor<?xi32>
}
}

// -----

// Operations without a kernel.
module attributes {moe.model = {name = "t", family = "mixtral", vocab_size = 16 : i64, hidden_size = 8 : i64, num_layers = 1 : i64, num_experts = 4 : i64, top_k = 2 : i64, max_position = 64 : i64, eos_token_ids = array<i64: 2>, bos_token_id = 1 : i64, total_parameters = 1 : i64, active_parameters = 1 : i64}, moe.limits = {max_batch_tokens = 8 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 16 : i64}, plan.buckets = array<i64: 8>} {
moe.weight @embed : tensor<16x8xf32> = #moe.source<"e" in "f" : tensor<16x8xf32>>
func.func @rank0(%ids: tensor<?xi32>, %b: !moe.batch) -> (tensor<?x16xf32>, tensor<?xi32>) attributes {moe.rank = 0 : i64} {
  %h = moe.embedding %ids table @embed : tensor<?xi32> -> tensor<?x8xf32>
  // expected-error @below {{'builtin.unrealized_conversion_cast' op has no kernel family; no kernel of this build runs it}}
  %g = builtin.unrealized_conversion_cast %h : tensor<?x8xf32> to tensor<?x8xf32>
  %s = moe.select_rows %h of %b : tensor<?x8xf32> -> tensor<?x8xf32>
  %l = moe.linear %s weight @embed : tensor<?x8xf32> -> tensor<?x16xf32>
  %t = moe.sample %l by %b : tensor<?x16xf32> -> tensor<?xi32>
  return %l, %t : tensor<?x16xf32>, tensor<?xi32>
}
}

// -----

module attributes {moe.model = {name = "t", family = "mixtral", vocab_size = 16 : i64, hidden_size = 8 : i64, num_layers = 1 : i64, num_experts = 4 : i64, top_k = 2 : i64, max_position = 64 : i64, eos_token_ids = array<i64: 2>, bos_token_id = 1 : i64, total_parameters = 1 : i64, active_parameters = 1 : i64}, moe.limits = {max_batch_tokens = 8 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 16 : i64}, plan.buckets = array<i64: 8>} {
moe.weight @embed : tensor<16x8xf32> = #moe.source<"e" in "f" : tensor<16x8xf32>>
func.func @rank0(%ids: tensor<?xi32>, %b: !moe.batch) -> (tensor<?x16xf32>, tensor<?xi32>) attributes {moe.rank = 0 : i64} {
  %h = moe.embedding %ids table @embed : tensor<?xi32> -> tensor<?x8xf32>
  %p = moe.select_rows %h of %b : tensor<?x8xf32> -> tensor<?x8xf32>
  // expected-error @below {{'moe.residual' op has no kernel over the rows that moe.select_rows chose; only norm, linear, sample and all_gather have}}
  %q = moe.residual %p, %p : tensor<?x8xf32>
  %s = moe.select_rows %h of %b : tensor<?x8xf32> -> tensor<?x8xf32>
  %l = moe.linear %s weight @embed : tensor<?x8xf32> -> tensor<?x16xf32>
  %t = moe.sample %l by %b : tensor<?x16xf32> -> tensor<?xi32>
  return %l, %t : tensor<?x16xf32>, tensor<?xi32>
}
}

// -----

module attributes {moe.model = {name = "t", family = "mixtral", vocab_size = 16 : i64, hidden_size = 8 : i64, num_layers = 1 : i64, num_experts = 4 : i64, top_k = 2 : i64, max_position = 64 : i64, eos_token_ids = array<i64: 2>, bos_token_id = 1 : i64, total_parameters = 1 : i64, active_parameters = 1 : i64}, moe.limits = {max_batch_tokens = 8 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 16 : i64}, plan.buckets = array<i64: 8>} {
moe.weight @embed : tensor<16x8xf32> = #moe.source<"e" in "f" : tensor<16x8xf32>>
func.func @rank0(%ids: tensor<?xi32>, %b: !moe.batch) -> (tensor<?x16xf32>, tensor<?xi32>) attributes {moe.rank = 0 : i64} {
  %h = moe.embedding %ids table @embed : tensor<?xi32> -> tensor<?x8xf32>
  %l = moe.linear %h weight @embed : tensor<?x8xf32> -> tensor<?x16xf32>
  // expected-error @below {{'moe.sample' op samples from rows of all tokens; moe.select_rows must choose the rows with wanted logits before the head}}
  %t = moe.sample %l by %b : tensor<?x16xf32> -> tensor<?xi32>
  return %l, %t : tensor<?x16xf32>, tensor<?xi32>
}
}

// -----

// Things that kernels do not take.
module attributes {moe.model = {name = "t", family = "mixtral", vocab_size = 16 : i64, hidden_size = 8 : i64, num_layers = 1 : i64, num_experts = 4 : i64, top_k = 2 : i64, max_position = 64 : i64, eos_token_ids = array<i64: 2>, bos_token_id = 1 : i64, total_parameters = 1 : i64, active_parameters = 1 : i64}, moe.limits = {max_batch_tokens = 8 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 16 : i64}, plan.buckets = array<i64: 8>} {
moe.weight @embed : tensor<16x8xf32> = #moe.source<"e" in "f" : tensor<16x8xf32>>
moe.weight @i : tensor<8x8xf64> = #moe.source<"i" in "f" : tensor<8x8xf64>>
func.func @rank0(%ids: tensor<?xi32>, %b: !moe.batch) -> (tensor<?x16xf32>, tensor<?xi32>) attributes {moe.rank = 0 : i64} {
  %h = moe.embedding %ids table @embed : tensor<?xi32> -> tensor<?x8xf32>
  // expected-error @below {{'moe.linear' op has weight i of element type 'f64'; kernels take f32, bf16 and f16}}
  %g = moe.linear %h weight @i : tensor<?x8xf32> -> tensor<?x8xf32>
  %s = moe.select_rows %h of %b : tensor<?x8xf32> -> tensor<?x8xf32>
  %l = moe.linear %s weight @embed : tensor<?x8xf32> -> tensor<?x16xf32>
  %t = moe.sample %l by %b : tensor<?x16xf32> -> tensor<?xi32>
  return %l, %t : tensor<?x16xf32>, tensor<?xi32>
}
}

// -----

module attributes {moe.model = {name = "t", family = "mixtral", vocab_size = 16 : i64, hidden_size = 8 : i64, num_layers = 1 : i64, num_experts = 4 : i64, top_k = 2 : i64, max_position = 64 : i64, eos_token_ids = array<i64: 2>, bos_token_id = 1 : i64, total_parameters = 1 : i64, active_parameters = 1 : i64}, moe.limits = {max_batch_tokens = 8 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 16 : i64}, plan.buckets = array<i64: 8>} {
moe.weight @embed : tensor<16x8xf32> = #moe.source<"e" in "f" : tensor<16x8xf32>>
moe.weight @i : tensor<24x8xf32> = #moe.source<"i" in "f" : tensor<24x8xf32>>
moe.kv_cache @kv heads 1 key 8 value 8 : f8E4M3FN
func.func @rank0(%ids: tensor<?xi32>, %b: !moe.batch) -> (tensor<?x16xf32>, tensor<?xi32>) attributes {moe.rank = 0 : i64} {
  %h = moe.embedding %ids table @embed : tensor<?xi32> -> tensor<?x8xf32>
  // expected-error @below {{'moe.qkv' op has a cache of element type 'f8E4M3FN'; kernels take f32, bf16 and f16}}
  %g = moe.qkv %h weight @i cache @kv at %b heads 1 : tensor<?x8xf32> -> tensor<?x8xf32>
  %s = moe.select_rows %h of %b : tensor<?x8xf32> -> tensor<?x8xf32>
  %l = moe.linear %s weight @embed : tensor<?x8xf32> -> tensor<?x16xf32>
  %t = moe.sample %l by %b : tensor<?x16xf32> -> tensor<?xi32>
  return %l, %t : tensor<?x16xf32>, tensor<?xi32>
}
}

// -----

module attributes {moe.model = {name = "t", family = "mixtral", vocab_size = 16 : i64, hidden_size = 8 : i64, num_layers = 1 : i64, num_experts = 4 : i64, top_k = 2 : i64, max_position = 64 : i64, eos_token_ids = array<i64: 2>, bos_token_id = 1 : i64, total_parameters = 1 : i64, active_parameters = 1 : i64}, moe.limits = {max_batch_tokens = 8 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 16 : i64}, plan.buckets = array<i64: 8>} {
moe.weight @embed : tensor<16x8xf32> = #moe.source<"e" in "f" : tensor<16x8xf32>>
moe.weight @i : tensor<24x8xf32> = #moe.source<"i" in "f" : tensor<24x8xf32>>
moe.kv_cache @kv heads 1 key 8 value 8 : f32
func.func @rank0(%ids: tensor<?xi32>, %b: !moe.batch) -> (tensor<?x16xf32>, tensor<?xi32>) attributes {moe.rank = 0 : i64} {
  %h = moe.embedding %ids table @embed : tensor<?xi32> -> tensor<?x8xf32>
  // expected-error @below {{rope scaling "linear": key "factor" is missing}}
  %g = moe.qkv %h weight @i cache @kv at %b heads 1 rope <dim = 8, base = 1.0e+04, scaling = {rope_type = "linear"}> : tensor<?x8xf32> -> tensor<?x8xf32>
  %s = moe.select_rows %h of %b : tensor<?x8xf32> -> tensor<?x8xf32>
  %l = moe.linear %s weight @embed : tensor<?x8xf32> -> tensor<?x16xf32>
  %t = moe.sample %l by %b : tensor<?x16xf32> -> tensor<?xi32>
  return %l, %t : tensor<?x16xf32>, tensor<?xi32>
}
}

// -----

module attributes {moe.model = {name = "t", family = "mixtral", vocab_size = 16 : i64, hidden_size = 8 : i64, num_layers = 1 : i64, num_experts = 4 : i64, top_k = 2 : i64, max_position = 64 : i64, eos_token_ids = array<i64: 2>, bos_token_id = 1 : i64, total_parameters = 1 : i64, active_parameters = 1 : i64}, moe.limits = {max_batch_tokens = 8 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 16 : i64}, plan.buckets = array<i64: 8>} {
moe.weight @embed : tensor<16x8xf32> = #moe.source<"e" in "f" : tensor<16x8xf32>>
moe.weight @r : tensor<8x8xf32> = #moe.source<"r" in "f" : tensor<8x8xf32>>
func.func @rank0(%ids: tensor<?xi32>, %b: !moe.batch) -> (tensor<?x16xf32>, tensor<?xi32>) attributes {moe.rank = 0 : i64} {
  %h = moe.embedding %ids table @embed : tensor<?xi32> -> tensor<?x8xf32>
  // expected-error @below {{routes to 8 experts, but moe.model has num_experts = 4}}
  %i, %w, %d = moe.router %h weight @r routing <softmax, top_k = 2> : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %s = moe.select_rows %h of %b : tensor<?x8xf32> -> tensor<?x8xf32>
  %l = moe.linear %s weight @embed : tensor<?x8xf32> -> tensor<?x16xf32>
  %t = moe.sample %l by %b : tensor<?x16xf32> -> tensor<?xi32>
  return %l, %t : tensor<?x16xf32>, tensor<?xi32>
}
}
