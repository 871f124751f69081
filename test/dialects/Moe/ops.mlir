// Every operation: the custom form survives printing and parsing, and so does the generic form.
//
// RUN: sluice-opt %s | sluice-opt | FileCheck %s
// RUN: sluice-opt --mlir-print-op-generic %s | sluice-opt | FileCheck %s

// CHECK: moe.weight @embed : tensor<1024x256xbf16> = #moe.source<"model.embed_tokens.weight" in "model.safetensors" : tensor<1024x256xbf16>>{{$}}
moe.weight @embed : tensor<1024x256xbf16>
  = #moe.source<"model.embed_tokens.weight" in "model.safetensors" : tensor<1024x256xbf16>>
// CHECK: moe.weight @packed : tensor<4x16xf32> = #moe.dequantize<#moe.source<"packed" in "" : tensor<4x16xi8>> by #moe.source<"scale" in "" : tensor<4x1xf32>> group = 16>{{$}}
moe.weight @packed : tensor<4x16xf32> = #moe.dequantize<
  #moe.source<"packed" in "" : tensor<4x16xi8>> by #moe.source<"scale" in "" : tensor<4x1xf32>> group = 16>

// CHECK: moe.kv_cache @kv heads 2 key 64 value 64 : f32
moe.kv_cache @kv heads 2 key 64 value 64 : f32
// CHECK: moe.kv_cache @latent heads 1 key 80 value 0 latent : bf16
moe.kv_cache @latent heads 1 key 80 value 0 latent : bf16

moe.weight @n256 : tensor<256xf32> = dense<1.0> : tensor<256xf32>
moe.weight @n64 : tensor<64xf32> = dense<1.0> : tensor<64xf32>
moe.weight @n128 : tensor<128xf32> = dense<1.0> : tensor<128xf32>
moe.weight @q : tensor<256x256xbf16> = #moe.source<"q" in "" : tensor<256x256xbf16>>
moe.weight @kv_b_keys : tensor<4x64x32xbf16> = #moe.source<"kbk" in "" : tensor<4x64x32xbf16>>
moe.weight @kv_b_values : tensor<4x64x64xbf16> = #moe.source<"kbv" in "" : tensor<4x64x64xbf16>>
moe.weight @qkv : tensor<512x256xbf16> = #moe.source<"qkv" in "" : tensor<512x256xbf16>>
moe.weight @qkv_bias : tensor<512xbf16> = #moe.source<"qkv_b" in "" : tensor<512xbf16>>
moe.weight @kv_b : tensor<384x64xbf16> = #moe.source<"kv_b" in "" : tensor<384x64xbf16>>
moe.weight @sinks : tensor<4xf32> = #moe.source<"sinks" in "" : tensor<4xf32>>
moe.weight @router : tensor<8x256xbf16> = #moe.source<"router" in "" : tensor<8x256xbf16>>
moe.weight @n8 : tensor<8xf32> = #moe.source<"bias" in "" : tensor<8xf32>>
moe.weight @gate : tensor<8x96x256xbf16> = #moe.stack<"e.{}.w1" x 8 in [""] : tensor<8x96x256xbf16>>
moe.weight @up : tensor<8x96x256xbf16> = #moe.stack<"e.{}.w3" x 8 in [""] : tensor<8x96x256xbf16>>
moe.weight @down : tensor<8x256x96xbf16> = #moe.stack<"e.{}.w2" x 8 in [""] : tensor<8x256x96xbf16>>
moe.weight @gate_bias : tensor<8x96xbf16> = #moe.source<"gb" in "" : tensor<8x96xbf16>>
moe.weight @down_bias : tensor<8x256xbf16> = #moe.source<"db" in "" : tensor<8x256xbf16>>
moe.weight @gate_up : tensor<8x2x96x256xbf16> = #moe.source<"gu" in "" : tensor<8x2x96x256xbf16>>
moe.weight @gate_up_bias : tensor<8x2x96xbf16> = #moe.source<"gub" in "" : tensor<8x2x96xbf16>>
moe.weight @w1 : tensor<96x256xbf16> = #moe.source<"w1" in "" : tensor<96x256xbf16>>
moe.weight @w2 : tensor<256x96xbf16> = #moe.source<"w2" in "" : tensor<256x96xbf16>>
moe.weight @b96 : tensor<96xbf16> = #moe.source<"b1" in "" : tensor<96xbf16>>
moe.weight @w13 : tensor<2x96x256xbf16> = #moe.source<"w13" in "" : tensor<2x96x256xbf16>>
moe.weight @b13 : tensor<2x96xbf16> = #moe.source<"b13" in "" : tensor<2x96xbf16>>
moe.weight @shared_gate : tensor<1x256xbf16> = #moe.source<"sg" in "" : tensor<1x256xbf16>>

// CHECK-LABEL: func.func @elements(
// CHECK-SAME: %[[IDS:.*]]: tensor<?xi32>, %[[X:.*]]: tensor<?x256xf32>, %[[BATCH:.*]]: !moe.batch)
func.func @elements(%ids: tensor<?xi32>, %x: tensor<?x256xf32>, %batch: !moe.batch) {
  // CHECK: moe.embedding %[[IDS]] table @embed : tensor<?xi32> -> tensor<?x256xf32>
  %0 = moe.embedding %ids table @embed : tensor<?xi32> -> tensor<?x256xf32>
  // CHECK: moe.embedding %[[IDS]] table @embed multiplier 12.0 : tensor<?xi32> -> tensor<?x256xf32>
  %1 = moe.embedding %ids table @embed multiplier 12.0 : tensor<?xi32> -> tensor<?x256xf32>

  // CHECK: moe.norm rms %[[X]] weight @n256 eps 1.0e-05 : tensor<?x256xf32>
  %2 = moe.norm rms %x weight @n256 eps 1.0e-05 : tensor<?x256xf32>
  // CHECK: moe.norm layer %[[X]] weight @n256 bias @n256 eps 1.0e-05 : tensor<?x256xf32>
  %3 = moe.norm layer %x weight @n256 bias @n256 eps 0.00001 : tensor<?x256xf32>
  // CHECK: moe.norm rms %[[X]] weight @n64 eps 1.0e-06 groups 4 : tensor<?x256xf32>
  %4 = moe.norm rms %x weight @n64 eps 1.0e-06 groups 4 : tensor<?x256xf32>
  // CHECK: moe.norm l2 %[[X]] eps 1.0e-06 groups 4 : tensor<?x256xf32>
  %5 = moe.norm l2 %x eps 1.0e-06 groups 4 : tensor<?x256xf32>

  // CHECK: moe.linear %[[X]] weight @q : tensor<?x256xf32> -> tensor<?x256xf32>
  %6 = moe.linear %x weight @q : tensor<?x256xf32> -> tensor<?x256xf32>
  // CHECK: moe.linear %[[X]] weight @q bias @n256 scale 0.5 softcap 30.0 : tensor<?x256xf32> -> tensor<?x256xf32>
  %7 = moe.linear %x weight @q bias @n256 scale 0.5 softcap 30.0 : tensor<?x256xf32> -> tensor<?x256xf32>

  // CHECK: moe.clamp %[[X]] to 8.0 : tensor<?x256xf32>
  %8 = moe.clamp %x to 8.0 : tensor<?x256xf32>
  // CHECK: moe.residual %[[X]], %[[X]] : tensor<?x256xf32>
  %9 = moe.residual %x, %x : tensor<?x256xf32>
  // CHECK: moe.residual %[[X]], %[[X]] multiplier 0.22 : tensor<?x256xf32>
  %10 = moe.residual %x, %x multiplier 0.22 : tensor<?x256xf32>
  // CHECK: moe.select_rows %[[X]] of %[[BATCH]] : tensor<?x256xf32> -> tensor<?x256xf32>
  %11 = moe.select_rows %x of %batch : tensor<?x256xf32> -> tensor<?x256xf32>
  // CHECK: moe.sample %[[X]] by %[[BATCH]] : tensor<?x256xf32> -> tensor<?xi32>
  %12 = moe.sample %x by %batch : tensor<?x256xf32> -> tensor<?xi32>
  return
}

// CHECK-LABEL: func.func @attention(
// CHECK-SAME: %[[X:.*]]: tensor<?x256xf32>, %[[K:.*]]: tensor<?x128xf32>, %[[BATCH:.*]]: !moe.batch)
func.func @attention(%x: tensor<?x256xf32>, %k: tensor<?x128xf32>, %batch: !moe.batch) {
  // CHECK: moe.rope %[[X]] at %[[BATCH]] heads 4 rope <dim = 64, base = 1.0e+06> : tensor<?x256xf32>
  %0 = moe.rope %x at %batch heads 4 rope <dim = 64, base = 1.0e+06> : tensor<?x256xf32>
  // CHECK: moe.temperature %[[X]] at %[[BATCH]] scale 0.1 floor_scale 8192.0 : tensor<?x256xf32>
  %1 = moe.temperature %x at %batch scale 0.1 floor_scale 8192.0 : tensor<?x256xf32>
  // CHECK: moe.cache_append %[[K]], %[[K]] to @kv at %[[BATCH]] : tensor<?x128xf32>, tensor<?x128xf32>
  moe.cache_append %k, %k to @kv at %batch : tensor<?x128xf32>, tensor<?x128xf32>
  // CHECK: moe.attention %[[X]] cache @kv at %[[BATCH]] heads 4 scale 0.125 : tensor<?x256xf32> -> tensor<?x256xf32>
  %2 = moe.attention %x cache @kv at %batch heads 4 scale 0.125 : tensor<?x256xf32> -> tensor<?x256xf32>
  // CHECK: moe.attention %[[X]] cache @kv at %[[BATCH]] heads 4 scale 0.125 sinks @sinks window 128 softcap 50.0 : tensor<?x256xf32> -> tensor<?x256xf32>
  %3 = moe.attention %x cache @kv at %batch heads 4 scale 0.125 sinks @sinks window 128 softcap 50.0
       : tensor<?x256xf32> -> tensor<?x256xf32>
  // CHECK: moe.attention %[[X]] cache @kv at %[[BATCH]] heads 4 scale 0.125 chunk 8192 :
  %4 = moe.attention %x cache @kv at %batch heads 4 scale 0.125 chunk 8192
       : tensor<?x256xf32> -> tensor<?x256xf32>
  // CHECK: moe.qkv %[[X]] weight @qkv cache @kv at %[[BATCH]] heads 4 rope <dim = 64, base = 1.0e+06> : tensor<?x256xf32> -> tensor<?x256xf32>
  %5 = moe.qkv %x weight @qkv cache @kv at %batch heads 4 rope <dim = 64, base = 1.0e+06>
       : tensor<?x256xf32> -> tensor<?x256xf32>
  // CHECK: moe.qkv %[[X]] weight @qkv bias @qkv_bias cache @kv at %[[BATCH]] heads 4 clip 8.0 qk_norm <whole> q_norm @n256 k_norm @n128 eps 1.0e-05 temperature_scale 0.1 temperature_floor 8192.0 :
  %6 = moe.qkv %x weight @qkv bias @qkv_bias cache @kv at %batch heads 4 clip 8.0
       qk_norm <whole> q_norm @n256 k_norm @n128 eps 1.0e-05
       temperature_scale 0.1 temperature_floor 8192.0 : tensor<?x256xf32> -> tensor<?x256xf32>
  // CHECK: moe.qkv %{{.*}} qk_norm <per_head> q_norm @n64 k_norm @n64 :
  %7 = moe.qkv %x weight @qkv cache @kv at %batch heads 4 qk_norm <per_head> q_norm @n64 k_norm @n64
       : tensor<?x256xf32> -> tensor<?x256xf32>
  return
}

// CHECK-LABEL: func.func @latent_attention(
// CHECK-SAME: %[[Q:.*]]: tensor<?x192xf32>, %[[C:.*]]: tensor<?x64xf32>, %[[R:.*]]: tensor<?x16xf32>, %[[BATCH:.*]]: !moe.batch)
func.func @latent_attention(%q: tensor<?x192xf32>, %c: tensor<?x64xf32>, %r: tensor<?x16xf32>,
                            %batch: !moe.batch) {
  // CHECK: moe.rope %[[Q]] at %[[BATCH]] heads 4 rope <dim = 16, offset = 32, interleaved, base = 10000.0> : tensor<?x192xf32>
  %0 = moe.rope %q at %batch heads 4 rope <dim = 16, offset = 32, interleaved, base = 1.0e+04> : tensor<?x192xf32>
  // CHECK: moe.cache_append %[[C]], %[[R]] to @latent at %[[BATCH]] : tensor<?x64xf32>, tensor<?x16xf32>
  moe.cache_append %c, %r to @latent at %batch : tensor<?x64xf32>, tensor<?x16xf32>
  // CHECK: moe.latent_attention %[[Q]] cache @latent kv_b @kv_b at %[[BATCH]] heads 4 nope 32 value 64 scale 0.144 : tensor<?x192xf32> -> tensor<?x256xf32>
  %1 = moe.latent_attention %q cache @latent kv_b @kv_b at %batch heads 4 nope 32 value 64 scale 0.144
       : tensor<?x192xf32> -> tensor<?x256xf32>
  return
}

// CHECK-LABEL: func.func @fused_latent_attention(
// CHECK-SAME: %[[Q:.*]]: tensor<?x192xf32>, %[[L:.*]]: tensor<?x320xf32>, %[[KV:.*]]: tensor<?x80xf32>, %[[BATCH:.*]]: !moe.batch)
func.func @fused_latent_attention(%q: tensor<?x192xf32>, %l: tensor<?x320xf32>,
                                  %kv: tensor<?x80xf32>, %batch: !moe.batch) {
  // CHECK: moe.temperature %[[Q]] at %[[BATCH]] scale 0.1 floor_scale 8192.0 offset 0 : tensor<?x192xf32>
  %0 = moe.temperature %q at %batch scale 0.1 floor_scale 8192.0 offset 0 : tensor<?x192xf32>
  // CHECK: moe.latent_query %[[Q]] weight @kv_b_keys at %[[BATCH]] heads 4 rope <dim = 16, offset = 32, interleaved, base = 10000.0> : tensor<?x192xf32> -> tensor<?x320xf32>
  %1 = moe.latent_query %q weight @kv_b_keys at %batch heads 4
       rope <dim = 16, offset = 32, interleaved, base = 1.0e+04> : tensor<?x192xf32> -> tensor<?x320xf32>
  // CHECK: moe.latent_query %[[Q]] weight @kv_b_keys at %[[BATCH]] heads 4 : tensor<?x192xf32> -> tensor<?x320xf32>
  %2 = moe.latent_query %q weight @kv_b_keys at %batch heads 4 : tensor<?x192xf32> -> tensor<?x320xf32>
  // CHECK: moe.latent_append %[[KV]] norm @n64 eps 1.0e-06 to @latent at %[[BATCH]] rope <dim = 16, base = 10000.0> : tensor<?x80xf32>
  moe.latent_append %kv norm @n64 eps 1.0e-06 to @latent at %batch rope <dim = 16, base = 1.0e+04> : tensor<?x80xf32>
  // CHECK: moe.absorbed_attention %[[L]] cache @latent weight @kv_b_values at %[[BATCH]] heads 4 scale 0.144 : tensor<?x320xf32> -> tensor<?x256xf32>
  %3 = moe.absorbed_attention %l cache @latent weight @kv_b_values at %batch heads 4 scale 0.144
       : tensor<?x320xf32> -> tensor<?x256xf32>
  return
}

// CHECK-LABEL: func.func @experts(
// CHECK-SAME: %[[X:.*]]: tensor<?x256xf32>, %[[LOGITS:.*]]: tensor<?x8xf32>)
func.func @experts(%x: tensor<?x256xf32>, %logits: tensor<?x8xf32>) {
  // CHECK: %[[IDS:.*]], %[[WEIGHTS:.*]] = moe.route %[[LOGITS]] routing <softmax, top_k = 2, renormalize> : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %ids, %weights = moe.route %logits routing <softmax, top_k = 2, renormalize>
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  // CHECK: moe.route %[[LOGITS]] routing <sigmoid, top_k = 2, groups = 4, topk_group = 2, group_score = top2_sum> correction @n8 :
  %i1, %w1 = moe.route %logits
      routing <sigmoid, top_k = 2, groups = 4, topk_group = 2, group_score = top2_sum> correction @n8
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>

  // CHECK: moe.experts %[[X]], %[[IDS]], %[[WEIGHTS]] gate @gate up @up down @down activation <silu> : tensor<?x256xf32>, tensor<?x2xi32>, tensor<?x2xf32> -> tensor<?x256xf32>
  %m = moe.experts %x, %ids, %weights gate @gate up @up down @down activation <silu>
       : tensor<?x256xf32>, tensor<?x2xi32>, tensor<?x2xf32> -> tensor<?x256xf32>
  // CHECK: moe.experts %[[X]], %[[IDS]], %[[WEIGHTS]] gate @gate up @up down @down gate_bias @gate_bias up_bias @gate_bias down_bias @down_bias activation <swiglu_oai, alpha = 1.702, limit = 7.0> weight_on_input placement {slots = [array<i64: 0, 1, 2, 3>, array<i64: 4, 5, 6, 7>]} :
  %m1 = moe.experts %x, %ids, %weights gate @gate up @up down @down
        gate_bias @gate_bias up_bias @gate_bias down_bias @down_bias
        activation <swiglu_oai, alpha = 1.702, limit = 7.0> weight_on_input
        placement {slots = [array<i64: 0, 1, 2, 3>, array<i64: 4, 5, 6, 7>]}
        : tensor<?x256xf32>, tensor<?x2xi32>, tensor<?x2xf32> -> tensor<?x256xf32>

  // CHECK: moe.ffn %[[X]] gate @w1 up @w1 down @w2 activation <silu> : tensor<?x256xf32> -> tensor<?x256xf32>
  %s = moe.ffn %x gate @w1 up @w1 down @w2 activation <silu> : tensor<?x256xf32> -> tensor<?x256xf32>
  // CHECK: moe.ffn %[[X]] gate @w1 up @w1 down @w2 gate_bias @b96 up_bias @b96 down_bias @n256 activation <gelu_tanh> :
  %s1 = moe.ffn %x gate @w1 up @w1 down @w2 gate_bias @b96 up_bias @b96 down_bias @n256
        activation <gelu_tanh> : tensor<?x256xf32> -> tensor<?x256xf32>
  // CHECK: moe.sigmoid_gate %{{.*}} by %[[X]] weight @shared_gate : tensor<?x256xf32>, tensor<?x256xf32>
  %g = moe.sigmoid_gate %s by %x weight @shared_gate : tensor<?x256xf32>, tensor<?x256xf32>
  return
}

// CHECK-LABEL: func.func @fused(
// CHECK-SAME: %[[X:.*]]: tensor<?x256xf32>)
func.func @fused(%x: tensor<?x256xf32>) {
  // CHECK: %[[SUM:.*]], %[[N:.*]] = moe.residual_norm rms %[[X]], %[[X]] weight @n256 eps 1.0e-05 : tensor<?x256xf32>
  %sum, %n = moe.residual_norm rms %x, %x weight @n256 eps 1.0e-05 : tensor<?x256xf32>
  // CHECK: moe.residual_norm layer %[[X]], %[[X]] weight @n256 bias @n256 eps 1.0e-05 multiplier 0.22 : tensor<?x256xf32>
  %sum1, %n1 = moe.residual_norm layer %x, %x weight @n256 bias @n256 eps 1.0e-05 multiplier 0.22 : tensor<?x256xf32>
  // CHECK: %[[IDS:.*]], %[[W:.*]], %[[D:.*]] = moe.router %[[N]] weight @router routing <softmax, top_k = 2> : tensor<?x256xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %ids, %w, %d = moe.router %n weight @router routing <softmax, top_k = 2>
      : tensor<?x256xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  // CHECK: moe.router %[[N]] weight @router bias @n8 routing <sigmoid, top_k = 2> correction @n8 :
  %ids1, %w1, %d1 = moe.router %n weight @router bias @n8 routing <sigmoid, top_k = 2> correction @n8
      : tensor<?x256xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  // CHECK: %[[H:.*]] = moe.experts_gate_up %[[N]], %[[W]] by %[[D]] weight @gate_up activation <silu> : tensor<?x256xf32>, tensor<?x2xf32> -> tensor<?x96xf32>
  %h = moe.experts_gate_up %n, %w by %d weight @gate_up activation <silu>
       : tensor<?x256xf32>, tensor<?x2xf32> -> tensor<?x96xf32>
  // CHECK: moe.experts_gate_up %[[N]], %[[W]] by %[[D]] weight @gate_up bias @gate_up_bias activation <relu> weight_on_input :
  %h1 = moe.experts_gate_up %n, %w by %d weight @gate_up bias @gate_up_bias activation <relu> weight_on_input
       : tensor<?x256xf32>, tensor<?x2xf32> -> tensor<?x96xf32>
  // CHECK: moe.experts_down %[[H]], %[[W]] by %[[D]] weight @down : tensor<?x96xf32>, tensor<?x2xf32> -> tensor<?x256xf32>
  %y = moe.experts_down %h, %w by %d weight @down : tensor<?x96xf32>, tensor<?x2xf32> -> tensor<?x256xf32>
  // CHECK: moe.experts_down %[[H]], %[[W]] by %[[D]] weight @down bias @down_bias weight_on_input :
  %y1 = moe.experts_down %h, %w by %d weight @down bias @down_bias weight_on_input
        : tensor<?x96xf32>, tensor<?x2xf32> -> tensor<?x256xf32>
  // CHECK: moe.ffn_gate_up %[[N]] weight @w13 activation <gelu> : tensor<?x256xf32> -> tensor<?x96xf32>
  %f = moe.ffn_gate_up %n weight @w13 activation <gelu> : tensor<?x256xf32> -> tensor<?x96xf32>
  // CHECK: moe.ffn_gate_up %[[N]] weight @w13 bias @b13 activation <silu> :
  %f1 = moe.ffn_gate_up %n weight @w13 bias @b13 activation <silu> : tensor<?x256xf32> -> tensor<?x96xf32>
  return
}

// CHECK-LABEL: func.func @ranks(
// CHECK-SAME: %[[X:.*]]: tensor<?x256xf32>, %[[IDS:.*]]: tensor<?x2xi32>)
func.func @ranks(%x: tensor<?x256xf32>, %ids: tensor<?x2xi32>) {
  // CHECK: moe.all_reduce %[[X]] ranks [0, 1] : tensor<?x256xf32>
  %0 = moe.all_reduce %x ranks [0, 1] : tensor<?x256xf32>
  // CHECK: moe.all_gather %[[X]] ranks [0, 1] : tensor<?x256xf32> -> tensor<?x256xf32>
  %1 = moe.all_gather %x ranks [0, 1] : tensor<?x256xf32> -> tensor<?x256xf32>
  // CHECK: moe.reduce_scatter %[[X]] ranks [0, 1] : tensor<?x256xf32> -> tensor<?x256xf32>
  %2 = moe.reduce_scatter %x ranks [0, 1] : tensor<?x256xf32> -> tensor<?x256xf32>
  // CHECK: moe.assign_slots %[[IDS]] group 1 of [array<i64: 0, 1, 2>, array<i64: 3, 2>] : tensor<?x2xi32>
  %d = moe.assign_slots %ids group 1 of [array<i64: 0, 1, 2>, array<i64: 3, 2>] : tensor<?x2xi32>
  return
}
