// RUN: sluice-opt --sluice-lower-moe-to-plan %s | FileCheck %s

// Latent attention with a query temperature, and a gated shared part.
module attributes {
  moe.model = {name = "tiny", family = "deepseek_v3", vocab_size = 64 : i64, hidden_size = 32 : i64,
               num_layers = 1 : i64, num_experts = 4 : i64, top_k = 2 : i64, max_position = 64 : i64,
               eos_token_ids = array<i64: 2>, bos_token_id = 1 : i64,
               total_parameters = 1000 : i64, active_parameters = 500 : i64},
  moe.limits = {max_batch_tokens = 8 : i64, max_seqs = 4 : i64, max_seq_len = 64 : i64,
                max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 16 : i64},
  moe.target = "host", plan.buckets = array<i64: 8>
} {

moe.weight @embed : tensor<64x32xbf16> = #moe.source<"e" in "f" : tensor<64x32xbf16>>
moe.weight @layers.0.attn.q : tensor<48x32xbf16> = #moe.source<"q" in "f" : tensor<48x32xbf16>>
moe.weight @layers.0.attn.kv_a : tensor<20x32xbf16> = #moe.source<"a" in "f" : tensor<20x32xbf16>>
moe.weight @layers.0.attn.kv_norm : tensor<16xbf16> = #moe.source<"n" in "f" : tensor<16xbf16>>
moe.weight @layers.0.attn.kv_b_keys : tensor<4x16x8xbf16> = #moe.source<"bk" in "f" : tensor<4x16x8xbf16>>
moe.weight @layers.0.attn.kv_b_values : tensor<4x6x16xbf16> = #moe.source<"bv" in "f" : tensor<4x6x16xbf16>>
moe.weight @layers.0.attn.o : tensor<32x24xbf16> = #moe.source<"o" in "f" : tensor<32x24xbf16>>
moe.weight @layers.0.shared.scale : tensor<1x32xbf16> = #moe.source<"s" in "f" : tensor<1x32xbf16>>
moe.kv_cache @layers.0.kv heads 1 key 20 value 0 latent : bf16

// CHECK: plan.kernel @temperature_0 = "temperature"(width = 48, scale = 0.1, floor = 16.0, offset = 0)
// CHECK: plan.kernel @latent_append_0 = "latent_append"(latent = 16, rotary = 4, cache_type = "bf16", eps = 1.0e-06, rope_dim = 4, rope_offset = 0, rope_interleaved = 1,
// CHECK: plan.kernel @latent_query_0 = "latent_query"(heads = 4, latent = 16, nope = 8, rotary = 4, format = "bf16", rope_dim = 4, rope_offset = 8, rope_interleaved = 1, rope_tables = 1, rope_switch_length = 0, rope_magnitude = 1.0)
// CHECK: plan.kernel @absorbed_attention_0 = "absorbed_attention"(heads = 4, latent = 16, rotary = 4, value_dim = 6, format = "bf16", cache_type = "bf16", scale = 0.25)
// CHECK: plan.kernel @sigmoid_gate_0 = "sigmoid_gate"(width = 32, k = 32)

// One blob per head; the gate's row as numbers. One row per position in the cache, for all heads.
// CHECK-DAG: plan.weight @layers.0.attn.kv_b_keys from @layers.0.attn.kv_b_keys layout "panel16" format "bf16" bytes 1024
// CHECK-DAG: plan.weight @layers.0.attn.kv_b_values from @layers.0.attn.kv_b_values layout "panel16" format "bf16" bytes 2048
// CHECK-DAG: plan.weight @layers.0.shared.scale from @layers.0.shared.scale layout "row_major" format "f32" bytes 128
// CHECK-DAG: plan.cache @layers.0.kv.latents bytes 10240

// CHECK: plan.async.launch @temperature_0(%header[32], %positions[32], %layers.0.attn.q.out[1536], %layers.0.attn.temperature.out[1536]) stream 0 label "layers.0.attn.temperature"
// CHECK: plan.async.launch @latent_append_0(%header[32], %positions[32], %token_seq[32], %kv_lengths[16], %page_table[64], %layers.0.attn.kv_a.out[640], %layers.0.attn.kv_norm[64], %rope[8], %layers.0.kv.latents[10240]) stream 0 label "layers.0.attn.kv_norm"
// CHECK: plan.async.launch @latent_query_0(%header[32], %positions[32], %token_seq[32], %kv_lengths[16], %layers.0.attn.temperature.out[1536], %layers.0.attn.kv_b_keys[1024], %rope[8], %layers.0.attn.kv_b_keys.out[2560]) stream 0 label "layers.0.attn.kv_b_keys"
// CHECK: plan.async.launch @absorbed_attention_0(%header[32], %positions[32], %token_seq[32], %seq_starts[20], %kv_lengths[16], %page_table[64], %layers.0.attn.kv_b_keys.out[2560], %layers.0.kv.latents[10240], %layers.0.attn.kv_b_values[2048], %layers.0.attention.out[768], %layers.0.attention.latents[2048], %layers.0.attention.scratch[{{[0-9]+}}]) stream 0 label "layers.0.attention"
// CHECK: plan.async.launch @sigmoid_gate_0(%header[32], %layers.0.attn.o.out[1024], %embed.out[1024], %layers.0.shared.scale[128], %layers.0.shared.scale.out[1024]) stream 0 label "layers.0.shared.scale"

func.func @rank0(%ids: tensor<?xi32>, %batch: !moe.batch) -> (tensor<?x64xf32>, tensor<?xi32>) attributes {moe.rank = 0 : i64} {
  %h = moe.embedding %ids table @embed : tensor<?xi32> -> tensor<?x32xf32>
  %q = moe.linear %h weight @layers.0.attn.q : tensor<?x32xf32> -> tensor<?x48xf32>
  %t = moe.temperature %q at %batch scale 0.1 floor_scale 16.0 offset 0 : tensor<?x48xf32>
  %kv = moe.linear %h weight @layers.0.attn.kv_a : tensor<?x32xf32> -> tensor<?x20xf32>
  moe.latent_append %kv norm @layers.0.attn.kv_norm eps 1.0e-06 to @layers.0.kv at %batch rope <dim = 4, interleaved, base = 1.0e+04> : tensor<?x20xf32>
  %l = moe.latent_query %t weight @layers.0.attn.kv_b_keys at %batch heads 4 rope <dim = 4, offset = 8, interleaved, base = 1.0e+04> : tensor<?x48xf32> -> tensor<?x80xf32>
  %a = moe.absorbed_attention %l cache @layers.0.kv weight @layers.0.attn.kv_b_values at %batch heads 4 scale 0.25 : tensor<?x80xf32> -> tensor<?x24xf32>
  %o = moe.linear %a weight @layers.0.attn.o : tensor<?x24xf32> -> tensor<?x32xf32>
  %g = moe.sigmoid_gate %o by %h weight @layers.0.shared.scale : tensor<?x32xf32>, tensor<?x32xf32>
  %s = moe.select_rows %g of %batch : tensor<?x32xf32> -> tensor<?x32xf32>
  %logits = moe.linear %s weight @embed : tensor<?x32xf32> -> tensor<?x64xf32>
  %sampled = moe.sample %logits by %batch : tensor<?x64xf32> -> tensor<?xi32>
  return %logits, %sampled : tensor<?x64xf32>, tensor<?xi32>
}
}
