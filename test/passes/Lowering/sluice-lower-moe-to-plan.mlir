// RUN: sluice-opt --sluice-lower-moe-to-plan %s | FileCheck %s

module attributes {
  moe.model = {name = "tiny", family = "mixtral", vocab_size = 64 : i64, hidden_size = 32 : i64,
               num_layers = 1 : i64, num_experts = 4 : i64, top_k = 2 : i64, max_position = 64 : i64,
               eos_token_ids = array<i64: 2>, bos_token_id = 1 : i64,
               total_parameters = 1000 : i64, active_parameters = 500 : i64},
  moe.limits = {max_batch_tokens = 8 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64,
                max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 16 : i64},
  moe.target = "host", plan.buckets = array<i64: 1, 8>
} {

moe.weight @embed : tensor<64x32xbf16> = #moe.source<"e" in "f" : tensor<64x32xbf16>>
moe.weight @layers.0.attn.norm : tensor<32xbf16> = #moe.source<"n0" in "f" : tensor<32xbf16>>
moe.weight @layers.0.attn.qkv : tensor<64x32xbf16> = #moe.source<"qkv" in "f" : tensor<64x32xbf16>>
moe.weight @layers.0.attn.o : tensor<32x32xbf16> = #moe.source<"o" in "f" : tensor<32x32xbf16>>
moe.weight @layers.0.moe.norm : tensor<32xbf16> = #moe.source<"n1" in "f" : tensor<32xbf16>>
moe.weight @layers.0.moe.router : tensor<4x32xf32> = #moe.source<"r" in "f" : tensor<4x32xf32>>
moe.weight @layers.0.moe.gate_up : tensor<4x2x16x32xbf16> = #moe.source<"gu" in "f" : tensor<4x2x16x32xbf16>>
moe.weight @layers.0.moe.down : tensor<4x32x16xbf16> = #moe.source<"d" in "f" : tensor<4x32x16xbf16>>
moe.weight @norm : tensor<32xbf16> = #moe.source<"n" in "f" : tensor<32xbf16>>
moe.kv_cache @layers.0.kv heads 2 key 8 value 8 : f32

// Equal kernels are one symbol, named after the family and shared by all buckets.
// CHECK: plan.kernel @embedding_0 = "embedding"(vocab = 64, hidden = 32, format = "bf16", multiplier = 1.0)
// CHECK: plan.kernel @norm_0 = "norm"(kind = "rms", rows = "tokens", width = 32, groups = 1, eps = 1.0e-05, bias = 0)

// The rotation becomes a constant weight.
// CHECK: moe.weight @rope : tensor<1x4xf32> = dense<{{\[\[}}1.000000e+00, 1.000000e-01, 0.00999999977, 1.000000e-03]]>
// CHECK: plan.kernel @qkv_0 = "qkv"(k = 32, q_heads = 4, kv_heads = 2, head_dim = 8, value_dim = 8, format = "bf16", cache_type = "f32", {{.*}}rope_dim = 8, {{.*}}rope_tables = 1,
// CHECK: plan.kernel @attention_0
// CHECK: plan.kernel @linear_0 = "linear"(n = 32, k = 32, format = "bf16", rows = "tokens"
// CHECK: plan.kernel @residual_norm_0
// CHECK-NOT: plan.kernel @residual_norm_1
// CHECK: plan.kernel @router_0 = "router"(hidden = 32, experts = 4, top_k = 2, format = "f32", {{.*}}score = "softmax", score_first = 1, renormalize = 1,
// CHECK: plan.kernel @experts_gate_up_0 = "experts_gate_up"(experts = 4, top_k = 2, n = 16, k = 32, {{.*}}activation = "silu"
// CHECK: plan.kernel @experts_down_0
// CHECK: plan.kernel @gather_rows_0
// CHECK: plan.kernel @linear_1 = "linear"(n = 64, k = 32, format = "bf16", rows = "logit_rows"
// CHECK: plan.kernel @sample_0

// CHECK-NOT: func.func
// CHECK-NOT: moe.kv_cache
// CHECK-LABEL: plan.rank @rank0 number 0 {

// IO buffers have the sizes of the largest step.
// CHECK-DAG: plan.io @header bytes 32
// CHECK-DAG: plan.io @token_ids bytes 32
// CHECK-DAG: plan.io @page_table bytes 64
// CHECK-DAG: plan.io @logits bytes 512
// CHECK-DAG: plan.io @sampled_ids bytes 8
// CHECK-DAG: plan.io @expert_counts bytes 16

// One table serves the embedding by rows and the head by panels.
// CHECK-DAG: plan.weight @embed from @embed layout "row_major" format "bf16" bytes 4096
// CHECK-DAG: plan.weight @embed.panel16 from @embed layout "panel16" format "bf16" bytes 4096
// CHECK-DAG: plan.weight @layers.0.attn.norm from @layers.0.attn.norm layout "row_major" format "f32" bytes 128
// CHECK-DAG: plan.weight @layers.0.moe.gate_up from @layers.0.moe.gate_up layout "gate_up_panel16" format "bf16" bytes 8192
// CHECK-DAG: plan.weight @rope from @rope layout "row_major" format "f32" bytes 16
// CHECK-DAG: plan.cache @layers.0.kv.keys bytes 16384
// CHECK-DAG: plan.cache @layers.0.kv.values bytes 16384

// Small buckets have small buffers.
// CHECK-LABEL: plan.program @tokens1 tokens 1 {
// CHECK: %header = plan.async.io @header : !plan.buffer<32>
// CHECK: %token_ids = plan.async.io @token_ids : !plan.buffer<4>
// CHECK: %embed.out = plan.async.transient "embed.out" : !plan.buffer<128>
// CHECK: plan.async.launch @embedding_0(%header[32], %token_ids[4], %embed[4096], %embed.out[128]) stream 0 label "embed"

// CHECK-LABEL: plan.program @tokens8 tokens 8 {
// CHECK: plan.async.launch @embedding_0(%header[32], %token_ids[32], %embed[4096], %embed.out[1024]) stream 0 label "embed"
// CHECK: plan.async.launch @norm_0(%header[32], %embed.out[1024], %layers.0.attn.norm[128], none, %layers.0.attn.norm.out[1024]) stream 0 label "layers.0.attn.norm"
// CHECK: plan.async.launch @qkv_0(%header[32], %positions[32], %token_seq[32], %kv_lengths[16], %page_table[64], %layers.0.attn.norm.out[1024], %layers.0.attn.qkv[4096], none, none, none, %rope[16], %layers.0.attn.qkv.q[1024], %layers.0.kv.keys[16384], %layers.0.kv.values[16384], %layers.0.attn.qkv.scratch[2048]) stream 0 label "layers.0.attn.qkv"
// CHECK: plan.async.launch @attention_0(%header[32], {{.*}}, %layers.0.attn.qkv.q[1024], %layers.0.kv.keys[16384], %layers.0.kv.values[16384], none, %layers.0.attention.out[1024], %{{.*}}) stream 0 label "layers.0.attention"
// CHECK: plan.async.launch @linear_0({{.*}}) stream 0 label "layers.0.attn.o"
// CHECK: plan.async.launch @residual_norm_0(%header[32], %embed.out[1024], %layers.0.attn.o.out[1024], %layers.0.moe.norm[128], none, %layers.0.moe.norm.residual[1024], %layers.0.moe.norm.out[1024]) stream 0 label "layers.0.moe.norm"
// CHECK: %expert_counts = plan.async.io @expert_counts : !plan.buffer<16>
// CHECK: plan.async.launch @router_0(%header[32], %layers.0.moe.norm.out[1024], %layers.0.moe.router[2048], none, none, %layers.0.moe.router.ids[64], %layers.0.moe.router.weights[64], %layers.0.moe.router.offsets[20], %layers.0.moe.router.order[64], %layers.0.moe.router.inverse[64], %expert_counts[16], %layers.0.moe.router.scratch[{{[0-9]+}}]) stream 0 label "layers.0.moe.router"
// CHECK: plan.async.launch @experts_gate_up_0(%header[32], %layers.0.moe.norm.out[1024], %layers.0.moe.router.offsets[20], %layers.0.moe.router.order[64], %layers.0.moe.router.weights[64], %layers.0.moe.gate_up[8192], none, %layers.0.moe.gate_up.out[1024])
// CHECK: plan.async.launch @experts_down_0(%header[32], %layers.0.moe.gate_up.out[1024],
// CHECK: plan.async.launch @residual_norm_0(
// CHECK: plan.async.launch @gather_rows_0(%header[32], %logit_rows[8], %norm.out[1024], %select_rows.out[256]) stream 0 label "select_rows"

// The results of the function are the IO buffers of the step.
// CHECK: plan.async.launch @linear_1(%header[32], %select_rows.out[256], %embed.panel16[4096], none, %logits[512]) stream 0 label "embed"
// CHECK: plan.async.launch @sample_0(%header[32], %logits[512], %sampling[64], %sampled_ids[8], %sample.scratch[1024]) stream 0 label "sample"

func.func @rank0(%ids: tensor<?xi32>, %batch: !moe.batch) -> (tensor<?x64xf32>, tensor<?xi32>) attributes {moe.rank = 0 : i64} {
  %h0 = moe.embedding %ids table @embed : tensor<?xi32> -> tensor<?x32xf32>
  %n0 = moe.norm rms %h0 weight @layers.0.attn.norm eps 1.0e-05 : tensor<?x32xf32>
  %q = moe.qkv %n0 weight @layers.0.attn.qkv cache @layers.0.kv at %batch heads 4 rope <dim = 8, base = 1.0e+04> : tensor<?x32xf32> -> tensor<?x32xf32>
  %a = moe.attention %q cache @layers.0.kv at %batch heads 4 scale 0.35 : tensor<?x32xf32> -> tensor<?x32xf32>
  %o = moe.linear %a weight @layers.0.attn.o : tensor<?x32xf32> -> tensor<?x32xf32>
  %h1, %n1 = moe.residual_norm rms %h0, %o weight @layers.0.moe.norm eps 1.0e-05 : tensor<?x32xf32>
  %e, %w, %d = moe.router %n1 weight @layers.0.moe.router routing <softmax, top_k = 2, renormalize> : tensor<?x32xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %g = moe.experts_gate_up %n1, %w by %d weight @layers.0.moe.gate_up activation <silu> : tensor<?x32xf32>, tensor<?x2xf32> -> tensor<?x16xf32>
  %m = moe.experts_down %g, %w by %d weight @layers.0.moe.down : tensor<?x16xf32>, tensor<?x2xf32> -> tensor<?x32xf32>
  %h2, %n2 = moe.residual_norm rms %h1, %m weight @norm eps 1.0e-05 : tensor<?x32xf32>
  %s = moe.select_rows %n2 of %batch : tensor<?x32xf32> -> tensor<?x32xf32>
  %l = moe.linear %s weight @embed : tensor<?x32xf32> -> tensor<?x64xf32>
  %t = moe.sample %l by %batch : tensor<?x64xf32> -> tensor<?xi32>
  return %l, %t : tensor<?x64xf32>, tensor<?xi32>
}
}
