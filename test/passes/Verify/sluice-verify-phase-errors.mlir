// RUN: sluice-opt --sluice-verify-phase=phase=placed %s -verify-diagnostics -split-input-file

// expected-error@+1 {{after phase placed: module attribute 'moe.model' is missing}}
module {
}

// -----

module attributes {moe.model = {name = "m", family = "mixtral", vocab_size = 64 : i64, hidden_size = 32 : i64, num_layers = 1 : i64, num_experts = 8 : i64, top_k = 2 : i64, max_position = 128 : i64, eos_token_ids = array<i64: 0>, bos_token_id = -1 : i64, total_parameters = 1 : i64, active_parameters = 1 : i64}, moe.limits = {max_batch_tokens = 16 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64, max_logit_rows = 8 : i64, page_size = 16 : i64, num_pages = 16 : i64}, moe.target = "host"} {
  moe.weight @n : tensor<32xf32> = dense<1.0> : tensor<32xf32>
  func.func @step(%x: tensor<?x32xf32>, %d: tensor<?x32xf32>) -> tensor<?x32xf32> {
    // expected-error@+1 {{is not allowed after phase placed: it is made by fusion}}
    %s, %n = moe.residual_norm rms %x, %d weight @n eps 1.0e-05 : tensor<?x32xf32>
    return %n : tensor<?x32xf32>
  }
}

// -----

module attributes {moe.model = {name = "m", family = "mixtral", vocab_size = 64 : i64, hidden_size = 32 : i64, num_layers = 1 : i64, num_experts = 8 : i64, top_k = 2 : i64, max_position = 128 : i64, eos_token_ids = array<i64: 0>, bos_token_id = -1 : i64, total_parameters = 1 : i64, active_parameters = 1 : i64}, moe.limits = {max_batch_tokens = 16 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64, max_logit_rows = 8 : i64, page_size = 16 : i64, num_pages = 16 : i64}, moe.target = "host"} {
  func.func @step(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
    // expected-error@+1 {{is not allowed after phase placed: it is made by partitioning}}
    %y = moe.all_reduce %x ranks [0, 1] : tensor<?x32xf32>
    return %y : tensor<?x32xf32>
  }
}

// -----

module attributes {moe.model = {name = "m", family = "mixtral", vocab_size = 64 : i64, hidden_size = 32 : i64, num_layers = 1 : i64, num_experts = 8 : i64, top_k = 2 : i64, max_position = 128 : i64, eos_token_ids = array<i64: 0>, bos_token_id = -1 : i64, total_parameters = 1 : i64, active_parameters = 1 : i64}, moe.limits = {max_batch_tokens = 16 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64, max_logit_rows = 8 : i64, page_size = 16 : i64, num_pages = 16 : i64}, moe.target = "host"} {
  moe.weight @gate : tensor<8x16x32xbf16> = #moe.stack<"e.{}.w1" x 8 in ["m"] : tensor<8x16x32xbf16>>
  moe.weight @down : tensor<8x32x16xbf16> = #moe.stack<"e.{}.w2" x 8 in ["m"] : tensor<8x32x16xbf16>>
  func.func @step(%x: tensor<?x32xf32>, %ids: tensor<?x2xi32>, %w: tensor<?x2xf32>) -> tensor<?x32xf32> {
    // expected-error@+1 {{is not allowed after phase placed: it has no placement}}
    %y = moe.experts %x, %ids, %w gate @gate up @gate down @down activation <silu>
         : tensor<?x32xf32>, tensor<?x2xi32>, tensor<?x2xf32> -> tensor<?x32xf32>
    return %y : tensor<?x32xf32>
  }
}

// -----

// expected-error@+1 {{after phase placed: the module holds no model function @step}}
module attributes {moe.model = {name = "m", family = "mixtral", vocab_size = 64 : i64, hidden_size = 32 : i64, num_layers = 1 : i64, num_experts = 8 : i64, top_k = 2 : i64, max_position = 128 : i64, eos_token_ids = array<i64: 0>, bos_token_id = -1 : i64, total_parameters = 1 : i64, active_parameters = 1 : i64}, moe.limits = {max_batch_tokens = 16 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64, max_logit_rows = 8 : i64, page_size = 16 : i64, num_pages = 16 : i64}, moe.target = "host"} {
}
