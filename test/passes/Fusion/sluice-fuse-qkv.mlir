// RUN: sluice-opt --sluice-fuse-qkv %s | FileCheck %s

// The merged weight stands before its first part and is named after it.
// CHECK: moe.weight @layers.0.attn.qkv : tensor<64x32xbf16> = #moe.concat<axis = 0, [#moe.source<"q" in "m" : tensor<32x32xbf16>>, #moe.source<"k" in "m" : tensor<16x32xbf16>>, #moe.source<"v" in "m" : tensor<16x32xbf16>>]>
// A missing bias beside present ones becomes zeros.
// CHECK: moe.weight @layers.0.attn.qkv_bias : tensor<64xbf16> = #moe.concat<axis = 0, [#moe.source<"qb" {{.*}}>, dense<0.000000e+00> : tensor<16xbf16>, #moe.source<"vb"
moe.weight @layers.0.attn.q : tensor<32x32xbf16> = #moe.source<"q" in "m" : tensor<32x32xbf16>>
moe.weight @layers.0.attn.k : tensor<16x32xbf16> = #moe.source<"k" in "m" : tensor<16x32xbf16>>
moe.weight @layers.0.attn.v : tensor<16x32xbf16> = #moe.source<"v" in "m" : tensor<16x32xbf16>>
moe.weight @qb : tensor<32xbf16> = #moe.source<"qb" in "m" : tensor<32xbf16>>
moe.weight @vb : tensor<16xbf16> = #moe.source<"vb" in "m" : tensor<16xbf16>>
moe.weight @n8 : tensor<8xbf16> = #moe.source<"n8" in "m" : tensor<8xbf16>>
moe.kv_cache @kv heads 2 key 8 value 8 : f32

// CHECK-LABEL: func.func @plain(
// CHECK-SAME: %[[X:.*]]: tensor<?x32xf32>, %[[B:.*]]: !moe.batch)
func.func @plain(%x: tensor<?x32xf32>, %batch: !moe.batch) -> tensor<?x32xf32> {
  // CHECK-NEXT: %[[Q:.*]] = moe.qkv %[[X]] weight @layers.0.attn.qkv bias @layers.0.attn.qkv_bias cache @kv at %[[B]] heads 4 rope <dim = 8, base = 1.0e+06> : tensor<?x32xf32> -> tensor<?x32xf32>
  // CHECK-NEXT: moe.attention %[[Q]] cache @kv at %[[B]] heads 4
  %q = moe.linear %x weight @layers.0.attn.q bias @qb : tensor<?x32xf32> -> tensor<?x32xf32>
  %k = moe.linear %x weight @layers.0.attn.k : tensor<?x32xf32> -> tensor<?x16xf32>
  %v = moe.linear %x weight @layers.0.attn.v bias @vb : tensor<?x32xf32> -> tensor<?x16xf32>
  %qr = moe.rope %q at %batch heads 4 rope <dim = 8, base = 1.0e+06> : tensor<?x32xf32>
  %kr = moe.rope %k at %batch heads 2 rope <dim = 8, base = 1.0e+06> : tensor<?x16xf32>
  moe.cache_append %kr, %v to @kv at %batch : tensor<?x16xf32>, tensor<?x16xf32>
  %a = moe.attention %qr cache @kv at %batch heads 4 scale 0.35 : tensor<?x32xf32> -> tensor<?x32xf32>
  return %a : tensor<?x32xf32>
}

// Norms per head, clamps, and L2 norm with temperature are parts of the epilogue.
// CHECK-LABEL: func.func @per_head_norm(
func.func @per_head_norm(%x: tensor<?x32xf32>, %batch: !moe.batch) -> tensor<?x32xf32> {
  // CHECK-NEXT: moe.qkv %{{.*}} weight @layers.0.attn.qkv_0 cache @kv at %{{.*}} heads 4 rope <dim = 8, base = 1.0e+06> clip 8.0 qk_norm <per_head> q_norm @n8 k_norm @n8 :
  %q = moe.linear %x weight @layers.0.attn.q : tensor<?x32xf32> -> tensor<?x32xf32>
  %k = moe.linear %x weight @layers.0.attn.k : tensor<?x32xf32> -> tensor<?x16xf32>
  %v = moe.linear %x weight @layers.0.attn.v : tensor<?x32xf32> -> tensor<?x16xf32>
  %qn = moe.norm rms %q weight @n8 eps 1.0e-06 groups 4 : tensor<?x32xf32>
  %kn = moe.norm rms %k weight @n8 eps 1.0e-06 groups 2 : tensor<?x16xf32>
  %qc = moe.clamp %qn to 8.0 : tensor<?x32xf32>
  %kc = moe.clamp %kn to 8.0 : tensor<?x16xf32>
  %vc = moe.clamp %v to 8.0 : tensor<?x16xf32>
  %qr = moe.rope %qc at %batch heads 4 rope <dim = 8, base = 1.0e+06> : tensor<?x32xf32>
  %kr = moe.rope %kc at %batch heads 2 rope <dim = 8, base = 1.0e+06> : tensor<?x16xf32>
  moe.cache_append %kr, %vc to @kv at %batch : tensor<?x16xf32>, tensor<?x16xf32>
  %a = moe.attention %qr cache @kv at %batch heads 4 scale 0.35 : tensor<?x32xf32> -> tensor<?x32xf32>
  return %a : tensor<?x32xf32>
}

// CHECK-LABEL: func.func @no_rope(
func.func @no_rope(%x: tensor<?x32xf32>, %batch: !moe.batch) -> tensor<?x32xf32> {
  // CHECK-NEXT: moe.qkv {{.*}} heads 4 qk_norm <l2_after_rope> eps 1.0e-05 temperature_scale 0.1 temperature_floor 8192.0 :
  %q = moe.linear %x weight @layers.0.attn.q : tensor<?x32xf32> -> tensor<?x32xf32>
  %k = moe.linear %x weight @layers.0.attn.k : tensor<?x32xf32> -> tensor<?x16xf32>
  %v = moe.linear %x weight @layers.0.attn.v : tensor<?x32xf32> -> tensor<?x16xf32>
  %ql = moe.norm l2 %q eps 1.0e-05 groups 4 : tensor<?x32xf32>
  %kl = moe.norm l2 %k eps 1.0e-05 groups 2 : tensor<?x16xf32>
  %qt = moe.temperature %ql at %batch scale 0.1 floor_scale 8192.0 : tensor<?x32xf32>
  moe.cache_append %kl, %v to @kv at %batch : tensor<?x16xf32>, tensor<?x16xf32>
  %a = moe.attention %qt cache @kv at %batch heads 4 scale 0.35 : tensor<?x32xf32> -> tensor<?x32xf32>
  return %a : tensor<?x32xf32>
}
