// RUN: sluice-opt --sluice-fuse-qkv %s -verify-diagnostics -split-input-file

moe.weight @q : tensor<32x32xbf16> = #moe.source<"q" in "m" : tensor<32x32xbf16>>
moe.weight @k : tensor<16x32xbf16> = #moe.source<"k" in "m" : tensor<16x32xbf16>>
moe.kv_cache @kv heads 2 key 8 value 8 : f32

func.func @different_rope(%x: tensor<?x32xf32>, %batch: !moe.batch) -> tensor<?x32xf32> {
  %q = moe.linear %x weight @q : tensor<?x32xf32> -> tensor<?x32xf32>
  %k = moe.linear %x weight @k : tensor<?x32xf32> -> tensor<?x16xf32>
  %v = moe.linear %x weight @k : tensor<?x32xf32> -> tensor<?x16xf32>
  %qr = moe.rope %q at %batch heads 4 rope <dim = 8, base = 1.0e+06> : tensor<?x32xf32>
  %kr = moe.rope %k at %batch heads 2 rope <dim = 8, base = 1.0e+04> : tensor<?x16xf32>
  // expected-error@+1 {{cannot fuse q/k/v: queries and keys rotate differently}}
  moe.cache_append %kr, %v to @kv at %batch : tensor<?x16xf32>, tensor<?x16xf32>
  %a = moe.attention %qr cache @kv at %batch heads 4 scale 0.35 : tensor<?x32xf32> -> tensor<?x32xf32>
  return %a : tensor<?x32xf32>
}

// -----

moe.weight @q : tensor<32x32xbf16> = #moe.source<"q" in "m" : tensor<32x32xbf16>>
moe.weight @k : tensor<16x32xbf16> = #moe.source<"k" in "m" : tensor<16x32xbf16>>
moe.kv_cache @kv heads 2 key 8 value 8 : f32

func.func @different_inputs(%x: tensor<?x32xf32>, %y: tensor<?x32xf32>, %batch: !moe.batch) -> tensor<?x32xf32> {
  %q = moe.linear %x weight @q : tensor<?x32xf32> -> tensor<?x32xf32>
  %k = moe.linear %y weight @k : tensor<?x32xf32> -> tensor<?x16xf32>
  %v = moe.linear %x weight @k : tensor<?x32xf32> -> tensor<?x16xf32>
  // expected-error@+1 {{cannot fuse q/k/v: the projections have different inputs}}
  moe.cache_append %k, %v to @kv at %batch : tensor<?x16xf32>, tensor<?x16xf32>
  %a = moe.attention %q cache @kv at %batch heads 4 scale 0.35 : tensor<?x32xf32> -> tensor<?x32xf32>
  return %a : tensor<?x32xf32>
}

// -----

moe.weight @k : tensor<16x32xbf16> = #moe.source<"k" in "m" : tensor<16x32xbf16>>
moe.kv_cache @kv heads 2 key 8 value 8 : f32

func.func @no_projection(%x: tensor<?x32xf32>, %d: tensor<?x32xf32>, %batch: !moe.batch) -> tensor<?x32xf32> {
  %k = moe.linear %x weight @k : tensor<?x32xf32> -> tensor<?x16xf32>
  %v = moe.linear %x weight @k : tensor<?x32xf32> -> tensor<?x16xf32>
  // expected-note@+1 {{'moe.residual' stands in the way}}
  %q = moe.residual %x, %d : tensor<?x32xf32>
  // expected-error@+1 {{cannot fuse the queries of this cache: its chain does not lead to a moe.linear}}
  moe.cache_append %k, %v to @kv at %batch : tensor<?x16xf32>, tensor<?x16xf32>
  %a = moe.attention %q cache @kv at %batch heads 4 scale 0.35 : tensor<?x32xf32> -> tensor<?x32xf32>
  return %a : tensor<?x32xf32>
}

// -----

moe.weight @k : tensor<16x32xbf16> = #moe.source<"k" in "m" : tensor<16x32xbf16>>
moe.kv_cache @kv heads 2 key 8 value 8 : f32

func.func @no_attention(%x: tensor<?x32xf32>, %batch: !moe.batch) {
  %k = moe.linear %x weight @k : tensor<?x32xf32> -> tensor<?x16xf32>
  %v = moe.linear %x weight @k : tensor<?x32xf32> -> tensor<?x16xf32>
  // expected-error@+1 {{cannot fuse q/k/v: no moe.attention reads this cache afterwards}}
  moe.cache_append %k, %v to @kv at %batch : tensor<?x16xf32>, tensor<?x16xf32>
  return
}

// -----

moe.weight @q : tensor<32x32xbf16> = #moe.source<"q" in "m" : tensor<32x32xbf16>>
moe.weight @k : tensor<16x32xbf16> = #moe.source<"k" in "m" : tensor<16x32xbf16>>
moe.kv_cache @kv heads 2 key 8 value 8 : f32

func.func @other_readers(%x: tensor<?x32xf32>, %batch: !moe.batch) -> (tensor<?x32xf32>, tensor<?x16xf32>) {
  %q = moe.linear %x weight @q : tensor<?x32xf32> -> tensor<?x32xf32>
  %k = moe.linear %x weight @k : tensor<?x32xf32> -> tensor<?x16xf32>
  %v = moe.linear %x weight @k : tensor<?x32xf32> -> tensor<?x16xf32>
  // expected-error@+1 {{cannot fuse the values of this cache: 'moe.linear' on its way has other readers}}
  moe.cache_append %k, %v to @kv at %batch : tensor<?x16xf32>, tensor<?x16xf32>
  %a = moe.attention %q cache @kv at %batch heads 4 scale 0.35 : tensor<?x32xf32> -> tensor<?x32xf32>
  return %a, %v : tensor<?x32xf32>, tensor<?x16xf32>
}
