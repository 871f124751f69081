// Parameter groups, types, enumerations and the module's description.
//
// RUN: sluice-opt %s | sluice-opt | FileCheck %s
// RUN: sluice-opt --mlir-print-op-generic %s | sluice-opt | FileCheck %s

// CHECK: module attributes {
// CHECK-SAME: moe.limits = {max_batch_tokens = 256 : i64, max_logit_rows = 64 : i64, max_seq_len = 512 : i64, max_seqs = 16 : i64, num_pages = 512 : i64, page_size = 16 : i64}
// CHECK-SAME: moe.model = {active_parameters = 1900000 : i64, bos_token_id = 1 : i64, eos_token_ids = array<i64: 2, 7>, family = "mixtral", hidden_size = 256 : i64, max_position = 512 : i64, name = "moe-4m", num_experts = 8 : i64, num_layers = 4 : i64, top_k = 2 : i64, total_parameters = 4000000 : i64, vocab_size = 1024 : i64}
// CHECK-SAME: moe.phase = "normalized"
// CHECK-SAME: moe.target = "host"
module attributes {
  moe.model = {name = "moe-4m", family = "mixtral", vocab_size = 1024 : i64, hidden_size = 256 : i64,
               num_layers = 4 : i64, num_experts = 8 : i64, top_k = 2 : i64, max_position = 512 : i64,
               eos_token_ids = array<i64: 2, 7>, bos_token_id = 1 : i64,
               total_parameters = 4000000 : i64, active_parameters = 1900000 : i64},
  moe.limits = {max_batch_tokens = 256 : i64, max_seqs = 16 : i64, max_seq_len = 512 : i64,
                max_logit_rows = 64 : i64, page_size = 16 : i64, num_pages = 512 : i64},
  moe.phase = "normalized", moe.target = "host"
} {

// CHECK-LABEL: func.func private @rope() attributes {
func.func private @rope() attributes {
  // CHECK-SAME: r0 = #moe.rope<dim = 64, base = 1.0e+06>
  r0 = #moe.rope<dim = 64, base = 1.0e+06>,
  // CHECK-SAME: r1 = #moe.rope<dim = 64, offset = 128, interleaved, base = 10000.0, scaling = {factor = 4.000000e+01 : f64, rope_type = "yarn"}>
  r1 = #moe.rope<interleaved, base = 10000.0, dim = 64, scaling = {rope_type = "yarn", factor = 40.0 : f64}, offset = 128>
}

// CHECK-LABEL: func.func private @routing() attributes {
func.func private @routing() attributes {
  // Mixtral, gpt-oss, DeepSeek-V3, Phi-3.5-MoE; then each option alone.
  // CHECK-SAME: r0 = #moe.routing<softmax, top_k = 2, renormalize>
  r0 = #moe.routing<softmax, top_k = 2, renormalize>,
  // CHECK-SAME: r1 = #moe.routing<softmax after top_k, top_k = 4>
  r1 = #moe.routing<softmax after top_k, top_k = 4>,
  // CHECK-SAME: r2 = #moe.routing<sigmoid, top_k = 8, renormalize, epsilon = 1.0e-20, scale = 2.5, groups = 8, topk_group = 4, group_score = top2_sum>
  r2 = #moe.routing<sigmoid, top_k = 8, group_score = top2_sum, groups = 8, topk_group = 4, epsilon = 1.0e-20, renormalize, scale = 2.5>,
  // CHECK-SAME: r3 = #moe.routing<softmax, top_k = 2, sparse_mixer, jitter = 0.01>
  r3 = #moe.routing<softmax, top_k = 2, sparse_mixer, jitter = 0.01>,
  // CHECK-SAME: r4 = #moe.routing<sqrt_softplus, top_k = 6, scale = 0.1>
  r4 = #moe.routing<sqrt_softplus, top_k = 6, scale = 0.1>,
  // CHECK-SAME: r5 = #moe.routing<softmax, top_k = 6, groups = 8, topk_group = 3, group_score = max>
  r5 = #moe.routing<softmax, top_k = 6, groups = 8, topk_group = 3, group_score = max>
}

// CHECK-LABEL: func.func private @activation() attributes {
func.func private @activation() attributes {
  // CHECK-SAME: a0 = #moe.activation<silu>
  a0 = #moe.activation<silu>,
  // CHECK-SAME: a1 = #moe.activation<swiglu_oai, alpha = 1.702, limit = 7.0>
  a1 = #moe.activation<swiglu_oai, alpha = 1.702, limit = 7.0>,
  // CHECK-SAME: a2 = #moe.activation<gelu>
  a2 = #moe.activation<gelu>,
  // CHECK-SAME: a3 = #moe.activation<gelu_tanh>
  a3 = #moe.activation<gelu_tanh>,
  // CHECK-SAME: a4 = #moe.activation<relu>
  a4 = #moe.activation<relu>
}

// CHECK-LABEL: func.func private @enums() attributes {
func.func private @enums() attributes {
  // CHECK-SAME: k0 = #moe.norm_kind<rms>, k1 = #moe.norm_kind<layer>, k2 = #moe.norm_kind<l2>
  k0 = #moe.norm_kind<rms>, k1 = #moe.norm_kind<layer>, k2 = #moe.norm_kind<l2>,
  // CHECK-SAME: q0 = #moe.qk_norm<none>, q1 = #moe.qk_norm<per_head>, q2 = #moe.qk_norm<whole>, q3 = #moe.qk_norm<l2_after_rope>
  q0 = #moe.qk_norm<none>, q1 = #moe.qk_norm<per_head>, q2 = #moe.qk_norm<whole>,
  q3 = #moe.qk_norm<l2_after_rope>
}

// CHECK: func.func private @types(!moe.batch, !moe.dispatch)
func.func private @types(!moe.batch, !moe.dispatch)

}
