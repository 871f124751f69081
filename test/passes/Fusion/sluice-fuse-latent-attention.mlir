// RUN: sluice-opt --sluice-fuse-latent-attention %s | FileCheck %s

// What an importer took apart becomes whole again.
// CHECK: moe.weight @layers.0.attn.kv_a : tensor<20x32xbf16> = #moe.source<"a" in "m" : tensor<20x32xbf16>>
// The halves of kv_b, per head: keys [latent, nope], values [value, latent].
// CHECK: moe.weight @layers.0.attn.kv_b_keys : tensor<4x16x8xbf16> = #moe.transpose<#moe.slice<#moe.reshape<#moe.source<"b" in "m" : tensor<56x16xbf16>> to tensor<4x14x16xbf16>>, axis = 1, begin = 0, size = 8>, [0, 2, 1]>
// CHECK: moe.weight @layers.0.attn.kv_b_values : tensor<4x6x16xbf16> = #moe.slice<#moe.reshape<#moe.source<"b" in "m" : tensor<56x16xbf16>> to tensor<4x14x16xbf16>>, axis = 1, begin = 8, size = 6>
moe.weight @layers.0.attn.latent : tensor<16x32xbf16> = #moe.slice<#moe.source<"a" in "m" : tensor<20x32xbf16>>, axis = 0, begin = 0, size = 16>
moe.weight @layers.0.attn.rotary : tensor<4x32xbf16> = #moe.slice<#moe.source<"a" in "m" : tensor<20x32xbf16>>, axis = 0, begin = 16, size = 4>
moe.weight @layers.0.attn.kv_b : tensor<56x16xbf16> = #moe.source<"b" in "m" : tensor<56x16xbf16>>
moe.weight @n : tensor<16xbf16> = #moe.source<"n" in "m" : tensor<16xbf16>>
moe.weight @bias : tensor<16xf32> = #moe.source<"bias" in "m" : tensor<16xf32>>
moe.kv_cache @kv heads 1 key 20 value 0 latent : f32

// CHECK-LABEL: func.func @rotated(
// CHECK-SAME: %[[X:.*]]: tensor<?x32xf32>, %[[Q:.*]]: tensor<?x48xf32>, %[[B:.*]]: !moe.batch)
func.func @rotated(%x: tensor<?x32xf32>, %q: tensor<?x48xf32>, %batch: !moe.batch) -> tensor<?x24xf32> {
  // CHECK-NEXT: %[[KV:.*]] = moe.linear %[[X]] weight @layers.0.attn.kv_a : tensor<?x32xf32> -> tensor<?x20xf32>
  // CHECK-NEXT: moe.latent_append %[[KV]] norm @n eps 1.0e-06 to @kv at %[[B]] rope <dim = 4, interleaved, base = 10000.0> : tensor<?x20xf32>
  // CHECK-NEXT: %[[L:.*]] = moe.latent_query %[[Q]] weight @layers.0.attn.kv_b_keys at %[[B]] heads 4 rope <dim = 4, offset = 8, interleaved, base = 10000.0> : tensor<?x48xf32> -> tensor<?x80xf32>
  // CHECK-NEXT: %[[A:.*]] = moe.absorbed_attention %[[L]] cache @kv weight @layers.0.attn.kv_b_values at %[[B]] heads 4 scale 0.25 : tensor<?x80xf32> -> tensor<?x24xf32>
  // CHECK-NEXT: return %[[A]]
  %l = moe.linear %x weight @layers.0.attn.latent : tensor<?x32xf32> -> tensor<?x16xf32>
  %r = moe.linear %x weight @layers.0.attn.rotary : tensor<?x32xf32> -> tensor<?x4xf32>
  %ln = moe.norm rms %l weight @n eps 1.0e-06 : tensor<?x16xf32>
  %rr = moe.rope %r at %batch heads 1 rope <dim = 4, interleaved, base = 1.0e+04> : tensor<?x4xf32>
  moe.cache_append %ln, %rr to @kv at %batch : tensor<?x16xf32>, tensor<?x4xf32>
  %qr = moe.rope %q at %batch heads 4 rope <dim = 4, offset = 8, interleaved, base = 1.0e+04> : tensor<?x48xf32>
  %a = moe.latent_attention %qr cache @kv kv_b @layers.0.attn.kv_b at %batch heads 4 nope 8 value 6 scale 0.25 : tensor<?x48xf32> -> tensor<?x24xf32>
  return %a : tensor<?x24xf32>
}

// The query's temperature comes before what absorbs kv_b.
// CHECK-LABEL: func.func @temperature(
// CHECK-SAME: %[[X:.*]]: tensor<?x32xf32>, %[[Q:.*]]: tensor<?x48xf32>, %[[B:.*]]: !moe.batch)
func.func @temperature(%x: tensor<?x32xf32>, %q: tensor<?x48xf32>, %batch: !moe.batch) -> tensor<?x24xf32> {
  // CHECK: %[[T:.*]] = moe.temperature %[[Q]] at %[[B]] scale 0.1 floor_scale 16.0 offset 0 : tensor<?x48xf32>
  // CHECK-NEXT: moe.latent_query %[[T]] weight @layers.0.attn.kv_b_keys_{{[0-9]+}} at %[[B]] heads 4 rope <dim = 4, offset = 8, base = 10000.0>
  %l = moe.linear %x weight @layers.0.attn.latent : tensor<?x32xf32> -> tensor<?x16xf32>
  %r = moe.linear %x weight @layers.0.attn.rotary : tensor<?x32xf32> -> tensor<?x4xf32>
  %ln = moe.norm rms %l weight @n eps 1.0e-06 : tensor<?x16xf32>
  moe.cache_append %ln, %r to @kv at %batch : tensor<?x16xf32>, tensor<?x4xf32>
  %qr = moe.rope %q at %batch heads 4 rope <dim = 4, offset = 8, base = 1.0e+04> : tensor<?x48xf32>
  %qt = moe.temperature %qr at %batch scale 0.1 floor_scale 16.0 offset 0 : tensor<?x48xf32>
  %a = moe.latent_attention %qt cache @kv kv_b @layers.0.attn.kv_b at %batch heads 4 nope 8 value 6 scale 0.25 : tensor<?x48xf32> -> tensor<?x24xf32>
  return %a : tensor<?x24xf32>
}

// CHECK-LABEL: func.func @bias_without_rotation(
func.func @bias_without_rotation(%x: tensor<?x32xf32>, %q: tensor<?x48xf32>, %batch: !moe.batch) -> tensor<?x24xf32> {
  // CHECK-NEXT: moe.linear %{{.*}} weight @layers.0.attn.kv_a_{{[0-9]+}} bias @layers.0.attn.kv_a_bias :
  // CHECK-NEXT: moe.latent_append %{{.*}} norm @n eps 1.0e-06 to @kv at %{{[a-z0-9]*}} : tensor<?x20xf32>
  // CHECK-NEXT: moe.latent_query %{{.*}} heads 4 : tensor<?x48xf32> -> tensor<?x80xf32>
  %l = moe.linear %x weight @layers.0.attn.latent bias @bias : tensor<?x32xf32> -> tensor<?x16xf32>
  %r = moe.linear %x weight @layers.0.attn.rotary : tensor<?x32xf32> -> tensor<?x4xf32>
  %ln = moe.norm rms %l weight @n eps 1.0e-06 : tensor<?x16xf32>
  moe.cache_append %ln, %r to @kv at %batch : tensor<?x16xf32>, tensor<?x4xf32>
  %a = moe.latent_attention %q cache @kv kv_b @layers.0.attn.kv_b at %batch heads 4 nope 8 value 6 scale 0.25 : tensor<?x48xf32> -> tensor<?x24xf32>
  return %a : tensor<?x24xf32>
}
