// RUN: sluice-opt --sluice-fuse-latent-attention %s -verify-diagnostics -split-input-file

moe.weight @l : tensor<16x32xbf16> = #moe.source<"l" in "m" : tensor<16x32xbf16>>
moe.weight @r : tensor<4x32xbf16> = #moe.source<"r" in "m" : tensor<4x32xbf16>>
moe.weight @b : tensor<56x16xbf16> = #moe.source<"b" in "m" : tensor<56x16xbf16>>
moe.weight @n : tensor<16xbf16> = #moe.source<"n" in "m" : tensor<16xbf16>>
moe.kv_cache @kv heads 1 key 20 value 0 latent : f32

func.func @no_attention(%x: tensor<?x32xf32>, %q: tensor<?x48xf32>, %batch: !moe.batch) -> tensor<?x48xf32> {
  %l = moe.linear %x weight @l : tensor<?x32xf32> -> tensor<?x16xf32>
  %r = moe.linear %x weight @r : tensor<?x32xf32> -> tensor<?x4xf32>
  %ln = moe.norm rms %l weight @n eps 1.0e-06 : tensor<?x16xf32>
  // expected-error@+1 {{cannot fuse latent attention: no moe.latent_attention reads this cache afterwards}}
  moe.cache_append %ln, %r to @kv at %batch : tensor<?x16xf32>, tensor<?x4xf32>
  return %q : tensor<?x48xf32>
}

// -----

moe.weight @l : tensor<16x32xbf16> = #moe.source<"l" in "m" : tensor<16x32xbf16>>
moe.weight @r : tensor<4x32xbf16> = #moe.source<"r" in "m" : tensor<4x32xbf16>>
moe.weight @b : tensor<56x16xbf16> = #moe.source<"b" in "m" : tensor<56x16xbf16>>
moe.weight @n : tensor<16xbf16> = #moe.source<"n" in "m" : tensor<16xbf16>>
moe.kv_cache @kv heads 1 key 20 value 0 latent : f32

func.func @not_normalised(%x: tensor<?x32xf32>, %q: tensor<?x48xf32>, %batch: !moe.batch) -> tensor<?x24xf32> {
  // expected-note@+1 {{'moe.linear' stands where 'moe.norm' belongs}}
  %l = moe.linear %x weight @l : tensor<?x32xf32> -> tensor<?x16xf32>
  %r = moe.linear %x weight @r : tensor<?x32xf32> -> tensor<?x4xf32>
  // expected-error@+1 {{cannot fuse the latents of this latent cache: its chain is not projection and rms norm of the whole row}}
  moe.cache_append %l, %r to @kv at %batch : tensor<?x16xf32>, tensor<?x4xf32>
  %a = moe.latent_attention %q cache @kv kv_b @b at %batch heads 4 nope 8 value 6 scale 0.25 : tensor<?x48xf32> -> tensor<?x24xf32>
  return %a : tensor<?x24xf32>
}

// -----

moe.weight @l : tensor<16x32xbf16> = #moe.source<"l" in "m" : tensor<16x32xbf16>>
moe.weight @r : tensor<4x32xbf16> = #moe.source<"r" in "m" : tensor<4x32xbf16>>
moe.weight @b : tensor<56x16xbf16> = #moe.source<"b" in "m" : tensor<56x16xbf16>>
moe.weight @n : tensor<16xbf16> = #moe.source<"n" in "m" : tensor<16xbf16>>
moe.weight @h : tensor<8xbf16> = #moe.source<"h" in "m" : tensor<8xbf16>>
moe.kv_cache @kv heads 1 key 20 value 0 latent : f32

func.func @norm_in_groups(%x: tensor<?x32xf32>, %q: tensor<?x48xf32>, %batch: !moe.batch) -> tensor<?x24xf32> {
  %l = moe.linear %x weight @l : tensor<?x32xf32> -> tensor<?x16xf32>
  %r = moe.linear %x weight @r : tensor<?x32xf32> -> tensor<?x4xf32>
  %ln = moe.norm rms %l weight @h eps 1.0e-06 groups 2 : tensor<?x16xf32>
  // expected-error@+1 {{its chain is not projection and rms norm of the whole row}}
  moe.cache_append %ln, %r to @kv at %batch : tensor<?x16xf32>, tensor<?x4xf32>
  %a = moe.latent_attention %q cache @kv kv_b @b at %batch heads 4 nope 8 value 6 scale 0.25 : tensor<?x48xf32> -> tensor<?x24xf32>
  return %a : tensor<?x24xf32>
}

// -----

moe.weight @l : tensor<16x32xbf16> = #moe.source<"l" in "m" : tensor<16x32xbf16>>
moe.weight @r : tensor<4x32xbf16> = #moe.source<"r" in "m" : tensor<4x32xbf16>>
moe.weight @b : tensor<56x16xbf16> = #moe.source<"b" in "m" : tensor<56x16xbf16>>
moe.weight @n : tensor<16xbf16> = #moe.source<"n" in "m" : tensor<16xbf16>>
moe.kv_cache @kv heads 1 key 20 value 0 latent : f32

func.func @other_readers(%x: tensor<?x32xf32>, %q: tensor<?x48xf32>, %batch: !moe.batch) -> (tensor<?x24xf32>, tensor<?x4xf32>) {
  %l = moe.linear %x weight @l : tensor<?x32xf32> -> tensor<?x16xf32>
  %r = moe.linear %x weight @r : tensor<?x32xf32> -> tensor<?x4xf32>
  %ln = moe.norm rms %l weight @n eps 1.0e-06 : tensor<?x16xf32>
  // expected-error@+1 {{cannot fuse the rope part of this latent cache: 'moe.linear' on its way has other readers}}
  moe.cache_append %ln, %r to @kv at %batch : tensor<?x16xf32>, tensor<?x4xf32>
  %a = moe.latent_attention %q cache @kv kv_b @b at %batch heads 4 nope 8 value 6 scale 0.25 : tensor<?x48xf32> -> tensor<?x24xf32>
  return %a, %r : tensor<?x24xf32>, tensor<?x4xf32>
}

// -----

moe.weight @l : tensor<16x32xbf16> = #moe.source<"l" in "m" : tensor<16x32xbf16>>
moe.weight @r : tensor<4x32xbf16> = #moe.source<"r" in "m" : tensor<4x32xbf16>>
moe.weight @b : tensor<56x16xbf16> = #moe.source<"b" in "m" : tensor<56x16xbf16>>
moe.weight @n : tensor<16xbf16> = #moe.source<"n" in "m" : tensor<16xbf16>>
moe.kv_cache @kv heads 1 key 20 value 0 latent : f32

func.func @two_heads(%x: tensor<?x32xf32>, %q: tensor<?x48xf32>, %batch: !moe.batch) -> tensor<?x24xf32> {
  %l = moe.linear %x weight @l : tensor<?x32xf32> -> tensor<?x16xf32>
  %r = moe.linear %x weight @r : tensor<?x32xf32> -> tensor<?x4xf32>
  %ln = moe.norm rms %l weight @n eps 1.0e-06 : tensor<?x16xf32>
  %rr = moe.rope %r at %batch heads 2 rope <dim = 2, base = 1.0e+04> : tensor<?x4xf32>
  // expected-error@+1 {{cannot fuse the rope part of this latent cache: it has 2 heads}}
  moe.cache_append %ln, %rr to @kv at %batch : tensor<?x16xf32>, tensor<?x4xf32>
  %a = moe.latent_attention %q cache @kv kv_b @b at %batch heads 4 nope 8 value 6 scale 0.25 : tensor<?x48xf32> -> tensor<?x24xf32>
  return %a : tensor<?x24xf32>
}

// -----

moe.weight @l : tensor<16x32xbf16> = #moe.source<"l" in "m" : tensor<16x32xbf16>>
moe.weight @r : tensor<4x32xbf16> = #moe.source<"r" in "m" : tensor<4x32xbf16>>
moe.weight @b : tensor<56x16xbf16> = #moe.source<"b" in "m" : tensor<56x16xbf16>>
moe.weight @n : tensor<16xbf16> = #moe.source<"n" in "m" : tensor<16xbf16>>
moe.kv_cache @kv heads 1 key 20 value 0 latent : f32

func.func @different_inputs(%x: tensor<?x32xf32>, %q: tensor<?x48xf32>, %y: tensor<?x32xf32>, %batch: !moe.batch) -> tensor<?x24xf32> {
  %l = moe.linear %x weight @l : tensor<?x32xf32> -> tensor<?x16xf32>
  %r = moe.linear %y weight @r : tensor<?x32xf32> -> tensor<?x4xf32>
  %ln = moe.norm rms %l weight @n eps 1.0e-06 : tensor<?x16xf32>
  // expected-error@+1 {{its two projections have different inputs}}
  moe.cache_append %ln, %r to @kv at %batch : tensor<?x16xf32>, tensor<?x4xf32>
  %a = moe.latent_attention %q cache @kv kv_b @b at %batch heads 4 nope 8 value 6 scale 0.25 : tensor<?x48xf32> -> tensor<?x24xf32>
  return %a : tensor<?x24xf32>
}

// -----

moe.weight @l : tensor<16x32xbf16> = #moe.source<"l" in "m" : tensor<16x32xbf16>>
moe.weight @r : tensor<4x32xbf16> = #moe.source<"r" in "m" : tensor<4x32xbf16>>
moe.weight @b : tensor<56x16xbf16> = #moe.source<"b" in "m" : tensor<56x16xbf16>>
moe.weight @n : tensor<16xbf16> = #moe.source<"n" in "m" : tensor<16xbf16>>
moe.kv_cache @kv heads 1 key 20 value 0 latent : f32

func.func @scaled(%x: tensor<?x32xf32>, %q: tensor<?x48xf32>, %batch: !moe.batch) -> tensor<?x24xf32> {
  %l = moe.linear %x weight @l : tensor<?x32xf32> -> tensor<?x16xf32>
  %r = moe.linear %x weight @r scale 2.0 : tensor<?x32xf32> -> tensor<?x4xf32>
  %ln = moe.norm rms %l weight @n eps 1.0e-06 : tensor<?x16xf32>
  // expected-error@+1 {{a projection is scaled or capped}}
  moe.cache_append %ln, %r to @kv at %batch : tensor<?x16xf32>, tensor<?x4xf32>
  %a = moe.latent_attention %q cache @kv kv_b @b at %batch heads 4 nope 8 value 6 scale 0.25 : tensor<?x48xf32> -> tensor<?x24xf32>
  return %a : tensor<?x24xf32>
}

// -----

moe.weight @l : tensor<16x32xbf16> = #moe.source<"l" in "m" : tensor<16x32xbf16>>
moe.weight @r : tensor<4x32xbf16> = #moe.source<"r" in "m" : tensor<4x32xbf16>>
moe.weight @b : tensor<56x16xbf16> = #moe.source<"b" in "m" : tensor<56x16xbf16>>
moe.weight @n : tensor<16xbf16> = #moe.source<"n" in "m" : tensor<16xbf16>>
moe.kv_cache @kv heads 1 key 20 value 0 latent : f32

func.func @rotated_elsewhere(%x: tensor<?x32xf32>, %q: tensor<?x48xf32>, %batch: !moe.batch) -> tensor<?x24xf32> {
  %l = moe.linear %x weight @l : tensor<?x32xf32> -> tensor<?x16xf32>
  %r = moe.linear %x weight @r : tensor<?x32xf32> -> tensor<?x4xf32>
  %ln = moe.norm rms %l weight @n eps 1.0e-06 : tensor<?x16xf32>
  moe.cache_append %ln, %r to @kv at %batch : tensor<?x16xf32>, tensor<?x4xf32>
  %qr = moe.rope %q at %batch heads 4 rope <dim = 4, offset = 6, base = 1.0e+04> : tensor<?x48xf32>
  // expected-error@+1 {{they are rotated outside the rope part of their heads}}
  %a = moe.latent_attention %qr cache @kv kv_b @b at %batch heads 4 nope 8 value 6 scale 0.25 : tensor<?x48xf32> -> tensor<?x24xf32>
  return %a : tensor<?x24xf32>
}

// -----

moe.weight @l : tensor<16x32xbf16> = #moe.source<"l" in "m" : tensor<16x32xbf16>>
moe.weight @r : tensor<4x32xbf16> = #moe.source<"r" in "m" : tensor<4x32xbf16>>
moe.weight @b : tensor<56x16xbf16> = #moe.source<"b" in "m" : tensor<56x16xbf16>>
moe.weight @n : tensor<16xbf16> = #moe.source<"n" in "m" : tensor<16xbf16>>
moe.kv_cache @kv heads 1 key 20 value 0 latent : f32

func.func @rotation_read_twice(%x: tensor<?x32xf32>, %q: tensor<?x48xf32>, %batch: !moe.batch) -> (tensor<?x24xf32>, tensor<?x48xf32>) {
  %l = moe.linear %x weight @l : tensor<?x32xf32> -> tensor<?x16xf32>
  %r = moe.linear %x weight @r : tensor<?x32xf32> -> tensor<?x4xf32>
  %ln = moe.norm rms %l weight @n eps 1.0e-06 : tensor<?x16xf32>
  moe.cache_append %ln, %r to @kv at %batch : tensor<?x16xf32>, tensor<?x4xf32>
  %qr = moe.rope %q at %batch heads 4 rope <dim = 4, offset = 8, base = 1.0e+04> : tensor<?x48xf32>
  // expected-error@+1 {{their rotation or temperature has other readers}}
  %a = moe.latent_attention %qr cache @kv kv_b @b at %batch heads 4 nope 8 value 6 scale 0.25 : tensor<?x48xf32> -> tensor<?x24xf32>
  return %a, %qr : tensor<?x24xf32>, tensor<?x48xf32>
}

// -----

moe.weight @l : tensor<16x32xbf16> = #moe.source<"l" in "m" : tensor<16x32xbf16>>
moe.weight @r : tensor<4x32xbf16> = #moe.source<"r" in "m" : tensor<4x32xbf16>>
moe.weight @b : tensor<24x16xbf16> = #moe.source<"b" in "m" : tensor<24x16xbf16>>
moe.weight @n : tensor<16xbf16> = #moe.source<"n" in "m" : tensor<16xbf16>>
moe.kv_cache @kv heads 1 key 20 value 0 latent : f32

func.func @no_nope(%x: tensor<?x32xf32>, %q: tensor<?x16xf32>, %batch: !moe.batch) -> tensor<?x24xf32> {
  %l = moe.linear %x weight @l : tensor<?x32xf32> -> tensor<?x16xf32>
  %r = moe.linear %x weight @r : tensor<?x32xf32> -> tensor<?x4xf32>
  %ln = moe.norm rms %l weight @n eps 1.0e-06 : tensor<?x16xf32>
  moe.cache_append %ln, %r to @kv at %batch : tensor<?x16xf32>, tensor<?x4xf32>
  // expected-error@+1 {{cannot fuse latent attention: its heads have no part that the latent is a key for}}
  %a = moe.latent_attention %q cache @kv kv_b @b at %batch heads 4 nope 0 value 6 scale 0.25 : tensor<?x16xf32> -> tensor<?x24xf32>
  return %a : tensor<?x24xf32>
}
