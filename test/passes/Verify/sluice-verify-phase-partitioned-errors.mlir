// RUN: sluice-opt --sluice-verify-phase=phase=partitioned %s -verify-diagnostics -split-input-file

module attributes {moe.model = {name = "m", family = "mixtral", vocab_size = 64 : i64, hidden_size = 32 : i64, num_layers = 1 : i64, num_experts = 8 : i64, top_k = 2 : i64, max_position = 128 : i64, eos_token_ids = array<i64: 0>, bos_token_id = -1 : i64, total_parameters = 1 : i64, active_parameters = 1 : i64}, moe.limits = {max_batch_tokens = 16 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64, max_logit_rows = 8 : i64, page_size = 16 : i64, num_pages = 16 : i64}, moe.target = "host"} {
  // expected-error@+1 {{after phase partitioned: must have the attribute 'moe.rank'}}
  func.func @step(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
    return %x : tensor<?x32xf32>
  }
}

// -----

module attributes {moe.model = {name = "m", family = "mixtral", vocab_size = 64 : i64, hidden_size = 32 : i64, num_layers = 1 : i64, num_experts = 8 : i64, top_k = 2 : i64, max_position = 128 : i64, eos_token_ids = array<i64: 0>, bos_token_id = -1 : i64, total_parameters = 1 : i64, active_parameters = 1 : i64}, moe.limits = {max_batch_tokens = 16 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64, max_logit_rows = 8 : i64, page_size = 16 : i64, num_pages = 16 : i64}, moe.target = "host"} {
  func.func @rank0(%x: tensor<?x32xf32>) -> tensor<?x32xf32> attributes {moe.rank = 0 : i64} {
    // expected-error@+1 {{is not allowed after phase partitioned: no kernel runs it; fusion should have replaced it}}
    %y = moe.clamp %x to 1.0 : tensor<?x32xf32>
    return %y : tensor<?x32xf32>
  }
}

// -----

module attributes {moe.model = {name = "m", family = "mixtral", vocab_size = 64 : i64, hidden_size = 32 : i64, num_layers = 1 : i64, num_experts = 8 : i64, top_k = 2 : i64, max_position = 128 : i64, eos_token_ids = array<i64: 0>, bos_token_id = -1 : i64, total_parameters = 1 : i64, active_parameters = 1 : i64}, moe.limits = {max_batch_tokens = 16 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64, max_logit_rows = 8 : i64, page_size = 16 : i64, num_pages = 16 : i64}, moe.target = "host"} {
  moe.kv_cache @kv heads 1 key 10 value 0 latent : f32
  moe.weight @b : tensor<16x8xf32> = #moe.source<"b" in "m" : tensor<16x8xf32>>
  func.func @rank0(%q: tensor<?x12xf32>, %batch: !moe.batch) -> tensor<?x8xf32> attributes {moe.rank = 0 : i64} {
    // expected-error@+1 {{'moe.latent_attention' op is not allowed after phase partitioned: no kernel runs it}}
    %y = moe.latent_attention %q cache @kv kv_b @b at %batch heads 2 nope 4 value 4 scale 0.5 : tensor<?x12xf32> -> tensor<?x8xf32>
    return %y : tensor<?x8xf32>
  }
}
