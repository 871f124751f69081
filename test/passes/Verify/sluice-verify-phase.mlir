// A phase that holds is recorded in the module.
//
// RUN: sluice-opt --sluice-verify-phase=phase=normalized %s | FileCheck %s

// CHECK: moe.phase = "normalized"
module attributes {moe.model = {name = "m", family = "mixtral", vocab_size = 64 : i64, hidden_size = 32 : i64, num_layers = 1 : i64, num_experts = 8 : i64, top_k = 2 : i64, max_position = 128 : i64, eos_token_ids = array<i64: 0>, bos_token_id = -1 : i64, total_parameters = 1 : i64, active_parameters = 1 : i64}, moe.limits = {max_batch_tokens = 16 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64, max_logit_rows = 8 : i64, page_size = 16 : i64, num_pages = 16 : i64}, moe.target = "host"} {
  func.func @step(%x: tensor<?x32xf32>, %d: tensor<?x32xf32>) -> tensor<?x32xf32> {
    %r = moe.residual %x, %d : tensor<?x32xf32>
    return %r : tensor<?x32xf32>
  }
}
