// One test per numbered constraint of the operations, in the order of MoeOps.td.
//
// RUN: sluice-opt %s -verify-diagnostics -split-input-file

// Symbols.

func.func @f(%x: tensor<?x8xf32>) {
  // expected-error @below {{'moe.linear' op refers to @w, which is not defined in the module}}
  %0 = moe.linear %x weight @w : tensor<?x8xf32> -> tensor<?x8xf32>
  return
}

// -----

moe.kv_cache @w heads 1 key 8 value 8 : f32
func.func @f(%x: tensor<?x8xf32>) {
  // expected-error @below {{'moe.linear' op refers to @w, which is a 'moe.kv_cache', expected a 'moe.weight'}}
  %0 = moe.linear %x weight @w : tensor<?x8xf32> -> tensor<?x8xf32>
  return
}

// -----

moe.weight @w : tensor<8xf32> = dense<1.0> : tensor<8xf32>
func.func @f(%x: tensor<?x8xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.attention' op refers to @w, which is a 'moe.weight', expected a 'moe.kv_cache'}}
  %0 = moe.attention %x cache @w at %b heads 1 scale 1.0 : tensor<?x8xf32> -> tensor<?x8xf32>
  return
}

// -----

func.func @f(%x: tensor<?x?xf32>) {
  // expected-error @below {{rank-2 tensor of f32, f16 or bf16 (rows by a static width)}}
  %0 = moe.clamp %x to 1.0 : tensor<?x?xf32>
  return
}

// -----

func.func @f(%x: tensor<?x8xf32>, %b: !moe.batch) {
  // expected-error @below {{attribute 'heads' failed to satisfy constraint: 64-bit signless integer attribute whose value is positive}}
  %0 = moe.rope %x at %b heads 0 rope <dim = 8, base = 1.0e+04> : tensor<?x8xf32>
  return
}

// -----

func.func @f(%x: tensor<?x8xf32>) {
  // expected-error @below {{'batchnorm' is not a norm, expected rms, layer or l2}}
  %0 = moe.norm batchnorm %x eps 1.0e-05 : tensor<?x8xf32>
  return
}

// -----

// moe.weight

// expected-error @below {{'moe.weight' op C1: the expression has type 'tensor<8xf32>', the weight says 'tensor<8xbf16>'}}
moe.weight @w : tensor<8xbf16> = #moe.source<"w" in "" : tensor<8xf32>>

// -----

// expected-error @below {{'moe.weight' op C1: the expression has type 'tensor<8xf32>', the weight says 'tensor<?xf32>'}}
moe.weight @w : tensor<?xf32> = #moe.source<"w" in "" : tensor<8xf32>>

// -----

// expected-error @below {{'moe.weight' op value 1 : i64 is not a weight expression}}
"moe.weight"() {sym_name = "w", type = tensor<1xi64>, value = 1 : i64} : () -> ()

// -----

// expected-error @below {{expected a weight expression (#moe.source, #moe.stack, ..., or a dense constant), but got 1 : i64}}
moe.weight @w : tensor<1xi64> = 1 : i64

// -----

// moe.kv_cache

// expected-error @below {{'moe.kv_cache' op C1: heads = 0, key = 64, value = 64 must be at least 1, 1, 0}}
moe.kv_cache @kv heads 0 key 64 value 64 : f32

// -----

// expected-error @below {{'moe.kv_cache' op C2: a latent cache has one head and no values, but heads = 2 and value = 0}}
moe.kv_cache @kv heads 2 key 64 value 0 latent : f32

// -----

// expected-error @below {{'moe.kv_cache' op C3: element type 'f64' is not f32, f16, bf16 or f8E4M3FN}}
moe.kv_cache @kv heads 2 key 64 value 64 : f64

// -----

// moe.embedding

moe.weight @w : tensor<16x8xf32> = #moe.source<"w" in "" : tensor<16x8xf32>>
func.func @f(%ids: tensor<?xi32>) {
  // expected-error @below {{'moe.embedding' op C1: weight @w is [16, 8], expected [vocabulary, width of result] = [?, 4]}}
  %0 = moe.embedding %ids table @w : tensor<?xi32> -> tensor<?x4xf32>
  return
}

// -----

moe.weight @w : tensor<8xf32> = dense<1.0> : tensor<8xf32>
func.func @f(%ids: tensor<?xi32>) {
  // expected-error @below {{'moe.embedding' op C1: weight @w is [8], expected [vocabulary, width of result]}}
  %0 = moe.embedding %ids table @w : tensor<?xi32> -> tensor<?x8xf32>
  return
}

// -----

func.func @f(%ids: tensor<3xi32>) {
  // expected-error @below {{'moe.embedding' op C2: row counts 3 and 4 differ}}
  %0 = moe.embedding %ids table @w : tensor<3xi32> -> tensor<4x8xf32>
  return
}

// -----

// moe.norm

func.func @f(%x: tensor<?x8xf32>) {
  // expected-error @below {{'moe.norm' op C1: groups = 3 does not divide the width 8}}
  %0 = moe.norm l2 %x eps 1.0e-05 groups 3 : tensor<?x8xf32>
  return
}

// -----

moe.weight @w : tensor<8xf32> = dense<1.0> : tensor<8xf32>
func.func @f(%x: tensor<?x8xf32>) {
  // expected-error @below {{'moe.norm' op C2: weight @w is [8], expected [width / groups] = [4]}}
  %0 = moe.norm rms %x weight @w eps 1.0e-05 groups 2 : tensor<?x8xf32>
  return
}

// -----

func.func @f(%x: tensor<?x8xf32>) {
  // expected-error @below {{'moe.norm' op C3: norm rms needs a weight}}
  %0 = moe.norm rms %x eps 1.0e-05 : tensor<?x8xf32>
  return
}

// -----

func.func @f(%x: tensor<?x8xf32>) {
  // expected-error @below {{'moe.norm' op C3: norm l2 takes no weight}}
  %0 = moe.norm l2 %x weight @w eps 1.0e-05 : tensor<?x8xf32>
  return
}

// -----

func.func @f(%x: tensor<?x8xf32>) {
  // expected-error @below {{'moe.norm' op C4: norm rms takes no bias}}
  %0 = moe.norm rms %x weight @w bias @b eps 1.0e-05 : tensor<?x8xf32>
  return
}

// -----

func.func @f(%x: tensor<?x8xf32>) {
  // expected-error-re @below {{'moe.norm' op C5: eps = {{0\.0.*}} must be positive and finite}}
  %0 = moe.norm rms %x weight @w eps 0.0 : tensor<?x8xf32>
  return
}

// -----

// moe.linear

moe.weight @w : tensor<4x8xf32> = #moe.source<"w" in "" : tensor<4x8xf32>>
func.func @f(%x: tensor<?x4xf32>) {
  // expected-error @below {{'moe.linear' op C1: weight @w is [4, 8], expected [width of result, width of x] = [8, 4]}}
  %0 = moe.linear %x weight @w : tensor<?x4xf32> -> tensor<?x8xf32>
  return
}

// -----

moe.weight @w : tensor<4x8xf32> = #moe.source<"w" in "" : tensor<4x8xf32>>
moe.weight @b : tensor<8xf32> = #moe.source<"b" in "" : tensor<8xf32>>
func.func @f(%x: tensor<?x8xf32>) {
  // expected-error @below {{'moe.linear' op C2: weight @b is [8], expected [width of result] = [4]}}
  %0 = moe.linear %x weight @w bias @b : tensor<?x8xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @f(%x: tensor<?x8xf32>) {
  // expected-error-re @below {{'moe.linear' op C3: softcap = {{-3.*}} must be at least 0 and finite}}
  %0 = moe.linear %x weight @w softcap -30.0 : tensor<?x8xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @f(%x: tensor<3x8xf32>) {
  // expected-error @below {{'moe.linear' op C4: row counts 3 and 4 differ}}
  %0 = moe.linear %x weight @w : tensor<3x8xf32> -> tensor<4x4xf32>
  return
}

// -----

// moe.clamp

func.func @f(%x: tensor<?x8xf32>) {
  // expected-error-re @below {{'moe.clamp' op C1: limit = {{-1.*}} must be positive and finite}}
  %0 = moe.clamp %x to -1.0 : tensor<?x8xf32>
  return
}

// -----

// moe.rope

func.func @f(%x: tensor<?x8xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.rope' op C1: heads = 3 does not divide the width 8}}
  %0 = moe.rope %x at %b heads 3 rope <dim = 2, base = 1.0e+04> : tensor<?x8xf32>
  return
}

// -----

func.func @f(%x: tensor<?x8xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.rope' op C2: offset + dim = 6 exceeds the head size 4}}
  %0 = moe.rope %x at %b heads 2 rope <dim = 4, offset = 2, base = 1.0e+04> : tensor<?x8xf32>
  return
}

// -----

// moe.temperature

func.func @f(%x: tensor<?x8xf32>, %b: !moe.batch) {
  // expected-error-re @below {{'moe.temperature' op C1: floor_scale = {{0\.0.*}} must be positive and finite}}
  %0 = moe.temperature %x at %b scale 0.1 floor_scale 0.0 : tensor<?x8xf32>
  return
}

// -----

func.func @f(%x: tensor<?x8xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.temperature' op C2: offset = -1 must be at least 0}}
  %0 = moe.temperature %x at %b scale 0.1 floor_scale 1.0 offset -1 : tensor<?x8xf32>
  return
}

// -----

// moe.cache_append

moe.kv_cache @kv heads 2 key 4 value 4 : f32
func.func @f(%k: tensor<?x8xf32>, %v: tensor<?x4xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.cache_append' op C1: widths 8 and 4 of key and value, expected kv_heads * head_dim = 8 and kv_heads * value_dim = 8}}
  moe.cache_append %k, %v to @kv at %b : tensor<?x8xf32>, tensor<?x4xf32>
  return
}

// -----

moe.kv_cache @kv heads 1 key 12 value 0 latent : f32
func.func @f(%c: tensor<?x8xf32>, %r: tensor<?x2xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.cache_append' op C1: widths 8 + 2 of latent and rotated part differ from the latent cache's key 12}}
  moe.cache_append %c, %r to @kv at %b : tensor<?x8xf32>, tensor<?x2xf32>
  return
}

// -----

func.func @f(%k: tensor<3x8xf32>, %v: tensor<4x8xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.cache_append' op C2: row counts 3 and 4 differ}}
  moe.cache_append %k, %v to @kv at %b : tensor<3x8xf32>, tensor<4x8xf32>
  return
}

// -----

// moe.attention

moe.kv_cache @kv heads 2 key 4 value 4 : f32
func.func @f(%q: tensor<?x12xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.attention' op C1: heads = 3 is not a multiple of the cache's heads 2}}
  %0 = moe.attention %q cache @kv at %b heads 3 scale 0.5 : tensor<?x12xf32> -> tensor<?x12xf32>
  return
}

// -----

moe.kv_cache @kv heads 2 key 4 value 2 : f32
func.func @f(%q: tensor<?x16xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.attention' op C2: widths 16 and 16 of query and result, expected heads * head_dim = 16 and heads * value_dim = 8}}
  %0 = moe.attention %q cache @kv at %b heads 4 scale 0.5 : tensor<?x16xf32> -> tensor<?x16xf32>
  return
}

// -----

moe.kv_cache @kv heads 1 key 4 value 0 latent : f32
func.func @f(%q: tensor<?x16xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.attention' op C3: cache @kv is latent, use moe.latent_attention for it}}
  %0 = moe.attention %q cache @kv at %b heads 4 scale 0.5 : tensor<?x16xf32> -> tensor<?x16xf32>
  return
}

// -----

moe.kv_cache @kv heads 2 key 4 value 4 : f32
moe.weight @s : tensor<2xf32> = #moe.source<"s" in "" : tensor<2xf32>>
func.func @f(%q: tensor<?x16xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.attention' op C4: weight @s is [2], expected [heads] = [4]}}
  %0 = moe.attention %q cache @kv at %b heads 4 scale 0.5 sinks @s : tensor<?x16xf32> -> tensor<?x16xf32>
  return
}

// -----

func.func @f(%q: tensor<?x16xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.attention' op C5: window = 4 and chunk = 8 must be at least 0 and not both positive}}
  %0 = moe.attention %q cache @kv at %b heads 4 scale 0.5 window 4 chunk 8 : tensor<?x16xf32> -> tensor<?x16xf32>
  return
}

// -----

func.func @f(%q: tensor<?x16xf32>, %b: !moe.batch) {
  // expected-error-re @below {{'moe.attention' op C5: softcap = {{-5.*}} must be at least 0 and finite}}
  %0 = moe.attention %q cache @kv at %b heads 4 scale 0.5 softcap -5.0 : tensor<?x16xf32> -> tensor<?x16xf32>
  return
}

// -----

func.func @f(%q: tensor<3x16xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.attention' op C6: row counts 3 and 4 differ}}
  %0 = moe.attention %q cache @kv at %b heads 4 scale 0.5 : tensor<3x16xf32> -> tensor<4x16xf32>
  return
}

// -----

// moe.latent_attention

moe.kv_cache @kv heads 1 key 12 value 4 : f32
func.func @f(%q: tensor<?x16xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.latent_attention' op C1: cache @kv is not latent, use moe.attention for it}}
  %0 = moe.latent_attention %q cache @kv kv_b @w at %b heads 2 nope 4 value 4 scale 0.5 : tensor<?x16xf32> -> tensor<?x8xf32>
  return
}

// -----

moe.kv_cache @kv heads 1 key 12 value 0 latent : f32
moe.weight @w : tensor<16x8xf32> = #moe.source<"w" in "" : tensor<16x8xf32>>
func.func @f(%q: tensor<?x8xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.latent_attention' op C2: query width 8, expected heads * (nope + rope) = 16}}
  %0 = moe.latent_attention %q cache @kv kv_b @w at %b heads 2 nope 4 value 4 scale 0.5 : tensor<?x8xf32> -> tensor<?x8xf32>
  return
}

// -----

moe.kv_cache @kv heads 1 key 12 value 0 latent : f32
moe.weight @w : tensor<16x16xf32> = #moe.source<"w" in "" : tensor<16x16xf32>>
func.func @f(%q: tensor<?x16xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.latent_attention' op C3: weight @w is [16, 16], expected [heads * (nope + value), latent] = [16, at most the cache's key 12]}}
  %0 = moe.latent_attention %q cache @kv kv_b @w at %b heads 2 nope 4 value 4 scale 0.5 : tensor<?x16xf32> -> tensor<?x8xf32>
  return
}

// -----

moe.kv_cache @kv heads 1 key 12 value 0 latent : f32
moe.weight @w : tensor<16x8xf32> = #moe.source<"w" in "" : tensor<16x8xf32>>
func.func @f(%q: tensor<?x16xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.latent_attention' op C4: result width 16, expected heads * value = 8}}
  %0 = moe.latent_attention %q cache @kv kv_b @w at %b heads 2 nope 4 value 4 scale 0.5 : tensor<?x16xf32> -> tensor<?x16xf32>
  return
}

// -----

func.func @f(%q: tensor<?x16xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.latent_attention' op C5: nope = 4 and value = 0 must be at least 0 and 1}}
  %0 = moe.latent_attention %q cache @kv kv_b @w at %b heads 2 nope 4 value 0 scale 0.5 : tensor<?x16xf32> -> tensor<?x8xf32>
  return
}

// -----

func.func @f(%q: tensor<3x16xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.latent_attention' op C6: row counts 3 and 4 differ}}
  %0 = moe.latent_attention %q cache @kv kv_b @w at %b heads 2 nope 4 value 4 scale 0.5 : tensor<3x16xf32> -> tensor<4x8xf32>
  return
}

// -----

// moe.route

func.func @f(%l: tensor<?x8xf32>) {
  // expected-error @below {{'moe.route' op C1: top_k = 9 exceeds the number of experts 8}}
  %i, %w = moe.route %l routing <softmax, top_k = 9> : tensor<?x8xf32> -> tensor<?x9xi32>, tensor<?x9xf32>
  return
}

// -----

func.func @f(%l: tensor<?x8xf32>) {
  // expected-error @below {{'moe.route' op C2: ids and weights are 2 and 3 wide, expected top_k = 2}}
  %i, %w = moe.route %l routing <softmax, top_k = 2> : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x3xf32>
  return
}

// -----

func.func @f(%l: tensor<?x8xf32>) {
  // expected-error @below {{'moe.route' op C3: groups = 3 does not divide the number of experts 8}}
  %i, %w = moe.route %l routing <softmax, top_k = 2, groups = 3, group_score = max> : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @f(%l: tensor<?x8xf32>) {
  // expected-error @below {{'moe.route' op C4: topk_group = 1 groups hold 2 experts, fewer than top_k = 3}}
  %i, %w = moe.route %l routing <softmax, top_k = 3, groups = 4, group_score = max> : tensor<?x8xf32> -> tensor<?x3xi32>, tensor<?x3xf32>
  return
}

// -----

moe.weight @c : tensor<4xf32> = dense<0.0> : tensor<4xf32>
func.func @f(%l: tensor<?x8xf32>) {
  // expected-error @below {{'moe.route' op C5: weight @c is [4], expected [experts] = [8]}}
  %i, %w = moe.route %l routing <sigmoid, top_k = 2> correction @c : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @f(%l: tensor<?x8xf32>) {
  // expected-error @below {{'moe.route' op C6: the sparse mixer asks for top_k = 2, not 1}}
  %i, %w = moe.route %l routing <softmax, top_k = 1, sparse_mixer> : tensor<?x8xf32> -> tensor<?x1xi32>, tensor<?x1xf32>
  return
}

// -----

func.func @f(%l: tensor<3x8xf32>) {
  // expected-error @below {{'moe.route' op C7: row counts 3 and 4 differ}}
  %i, %w = moe.route %l routing <softmax, top_k = 2> : tensor<3x8xf32> -> tensor<?x2xi32>, tensor<4x2xf32>
  return
}

// -----

// moe.experts

moe.weight @g : tensor<4x2x8xf32> = #moe.source<"g" in "" : tensor<4x2x8xf32>>
moe.weight @u : tensor<4x3x8xf32> = #moe.source<"u" in "" : tensor<4x3x8xf32>>
func.func @f(%x: tensor<?x8xf32>, %i: tensor<?x2xi32>, %w: tensor<?x2xf32>) {
  // expected-error @below {{'moe.experts' op C1: weight @u is [4, 3, 8], expected the shape of gate = [4, 2, 8]}}
  %0 = moe.experts %x, %i, %w gate @g up @u down @d activation <silu>
       : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32> -> tensor<?x8xf32>
  return
}

// -----

moe.weight @g : tensor<4x2x8xf32> = #moe.source<"g" in "" : tensor<4x2x8xf32>>
func.func @f(%x: tensor<?x8xf32>, %i: tensor<?x2xi32>, %w: tensor<?x2xf32>) {
  // expected-error @below {{'moe.experts' op C2: weight @g is [4, 2, 8], expected [experts, H, I] = [4, 8, 2]}}
  %0 = moe.experts %x, %i, %w gate @g up @g down @g activation <silu>
       : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32> -> tensor<?x8xf32>
  return
}

// -----

moe.weight @g : tensor<4x2x8xf32> = #moe.source<"g" in "" : tensor<4x2x8xf32>>
moe.weight @d : tensor<4x8x2xf32> = #moe.source<"d" in "" : tensor<4x8x2xf32>>
func.func @f(%x: tensor<?x6xf32>, %i: tensor<?x2xi32>, %w: tensor<?x2xf32>) {
  // expected-error @below {{'moe.experts' op C3: x and result are 6 and 8 wide, expected H = 8}}
  %0 = moe.experts %x, %i, %w gate @g up @g down @d activation <silu>
       : tensor<?x6xf32>, tensor<?x2xi32>, tensor<?x2xf32> -> tensor<?x8xf32>
  return
}

// -----

moe.weight @g : tensor<4x2x8xf32> = #moe.source<"g" in "" : tensor<4x2x8xf32>>
moe.weight @d : tensor<4x8x2xf32> = #moe.source<"d" in "" : tensor<4x8x2xf32>>
moe.weight @db : tensor<4x2xf32> = #moe.source<"db" in "" : tensor<4x2xf32>>
func.func @f(%x: tensor<?x8xf32>, %i: tensor<?x2xi32>, %w: tensor<?x2xf32>) {
  // expected-error @below {{'moe.experts' op C4: weight @db is [4, 2], expected [experts, H] = [4, 8]}}
  %0 = moe.experts %x, %i, %w gate @g up @g down @d down_bias @db activation <silu>
       : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32> -> tensor<?x8xf32>
  return
}

// -----

func.func @f(%x: tensor<?x8xf32>, %i: tensor<?x2xi32>, %w: tensor<?x2xf32>) {
  // expected-error @below {{'moe.experts' op C5: gate has a bias and up has none}}
  %0 = moe.experts %x, %i, %w gate @g up @g down @d gate_bias @gb activation <silu>
       : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32> -> tensor<?x8xf32>
  return
}

// -----

func.func @f(%x: tensor<?x8xf32>, %i: tensor<?x2xi32>, %w: tensor<?x3xf32>) {
  // expected-error @below {{'moe.experts' op C6: ids are 2 and weights 3 wide}}
  %0 = moe.experts %x, %i, %w gate @g up @g down @d activation <silu>
       : tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x3xf32> -> tensor<?x8xf32>
  return
}

// -----

func.func @f(%x: tensor<3x8xf32>, %i: tensor<4x2xi32>, %w: tensor<?x2xf32>) {
  // expected-error @below {{'moe.experts' op C7: row counts 3 and 4 differ}}
  %0 = moe.experts %x, %i, %w gate @g up @g down @d activation <silu>
       : tensor<3x8xf32>, tensor<4x2xi32>, tensor<?x2xf32> -> tensor<?x8xf32>
  return
}

// -----

// moe.ffn

moe.weight @g : tensor<2x8xf32> = #moe.source<"g" in "" : tensor<2x8xf32>>
moe.weight @u : tensor<3x8xf32> = #moe.source<"u" in "" : tensor<3x8xf32>>
func.func @f(%x: tensor<?x8xf32>) {
  // expected-error @below {{'moe.ffn' op C1: weight @u is [3, 8], expected the shape of gate = [2, 8]}}
  %0 = moe.ffn %x gate @g up @u down @d activation <silu> : tensor<?x8xf32> -> tensor<?x8xf32>
  return
}

// -----

moe.weight @g : tensor<2x8xf32> = #moe.source<"g" in "" : tensor<2x8xf32>>
func.func @f(%x: tensor<?x8xf32>) {
  // expected-error @below {{'moe.ffn' op C2: weight @g is [2, 8], expected [H, I] = [8, 2]}}
  %0 = moe.ffn %x gate @g up @g down @g activation <silu> : tensor<?x8xf32> -> tensor<?x8xf32>
  return
}

// -----

moe.weight @g : tensor<2x8xf32> = #moe.source<"g" in "" : tensor<2x8xf32>>
moe.weight @d : tensor<8x2xf32> = #moe.source<"d" in "" : tensor<8x2xf32>>
func.func @f(%x: tensor<?x8xf32>) {
  // expected-error @below {{'moe.ffn' op C3: x and result are 8 and 6 wide, expected H = 8}}
  %0 = moe.ffn %x gate @g up @g down @d activation <silu> : tensor<?x8xf32> -> tensor<?x6xf32>
  return
}

// -----

moe.weight @g : tensor<2x8xf32> = #moe.source<"g" in "" : tensor<2x8xf32>>
moe.weight @d : tensor<8x2xf32> = #moe.source<"d" in "" : tensor<8x2xf32>>
moe.weight @b : tensor<8xf32> = #moe.source<"b" in "" : tensor<8xf32>>
func.func @f(%x: tensor<?x8xf32>) {
  // expected-error @below {{'moe.ffn' op C4: weight @b is [8], expected [I] = [2]}}
  %0 = moe.ffn %x gate @g up @g down @d gate_bias @b up_bias @b activation <silu> : tensor<?x8xf32> -> tensor<?x8xf32>
  return
}

// -----

func.func @f(%x: tensor<?x8xf32>) {
  // expected-error @below {{'moe.ffn' op C5: up has a bias and gate has none}}
  %0 = moe.ffn %x gate @g up @g down @d up_bias @b activation <silu> : tensor<?x8xf32> -> tensor<?x8xf32>
  return
}

// -----

func.func @f(%x: tensor<3x8xf32>) {
  // expected-error @below {{'moe.ffn' op C6: row counts 3 and 4 differ}}
  %0 = moe.ffn %x gate @g up @g down @d activation <silu> : tensor<3x8xf32> -> tensor<4x8xf32>
  return
}

// -----

// moe.sigmoid_gate

moe.weight @w : tensor<8xf32> = #moe.source<"w" in "" : tensor<8xf32>>
func.func @f(%x: tensor<?x8xf32>, %y: tensor<?x4xf32>) {
  // expected-error @below {{'moe.sigmoid_gate' op C1: weight @w is [8], expected [1, width of x] = [1, 8]}}
  %0 = moe.sigmoid_gate %y by %x weight @w : tensor<?x4xf32>, tensor<?x8xf32>
  return
}

// -----

func.func @f(%x: tensor<3x8xf32>, %y: tensor<4x4xf32>) {
  // expected-error @below {{'moe.sigmoid_gate' op C2: row counts 3 and 4 differ}}
  %0 = moe.sigmoid_gate %y by %x weight @w : tensor<4x4xf32>, tensor<3x8xf32>
  return
}

// -----

// moe.select_rows, moe.sample

func.func @f(%x: tensor<?x8xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.select_rows' op C1: widths 8 and 4 differ}}
  %0 = moe.select_rows %x of %b : tensor<?x8xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @f(%x: tensor<3x8xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.sample' op C1: row counts 3 and 4 differ}}
  %0 = moe.sample %x by %b : tensor<3x8xf32> -> tensor<4xi32>
  return
}

// -----

// moe.residual_norm

func.func @f(%x: tensor<?x8xf32>) {
  // expected-error @below {{'moe.residual_norm' op C1: norm l2 cannot be fused, kind is rms or layer}}
  %0, %1 = moe.residual_norm l2 %x, %x weight @w eps 1.0e-05 : tensor<?x8xf32>
  return
}

// -----

moe.weight @w : tensor<4xf32> = #moe.source<"w" in "" : tensor<4xf32>>
func.func @f(%x: tensor<?x8xf32>) {
  // expected-error @below {{'moe.residual_norm' op C2: weight @w is [4], expected [width] = [8]}}
  %0, %1 = moe.residual_norm rms %x, %x weight @w eps 1.0e-05 : tensor<?x8xf32>
  return
}

// -----

func.func @f(%x: tensor<?x8xf32>) {
  // expected-error @below {{'moe.residual_norm' op C3: norm rms takes no bias}}
  %0, %1 = moe.residual_norm rms %x, %x weight @w bias @b eps 1.0e-05 : tensor<?x8xf32>
  return
}

// -----

func.func @f(%x: tensor<?x8xf32>) {
  // expected-error-re @below {{'moe.residual_norm' op C4: eps = {{-1.*}} must be positive and finite}}
  %0, %1 = moe.residual_norm rms %x, %x weight @w eps -1.0 : tensor<?x8xf32>
  return
}

// -----

// moe.qkv

moe.kv_cache @kv heads 1 key 4 value 4 : f32
moe.weight @w : tensor<12x8xf32> = #moe.source<"w" in "" : tensor<12x8xf32>>
func.func @f(%x: tensor<?x8xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.qkv' op C1: weight @w is [12, 8], expected [heads * head_dim + kv_heads * (head_dim + value_dim), width of x] = [16, 8]}}
  %0 = moe.qkv %x weight @w cache @kv at %b heads 2 : tensor<?x8xf32> -> tensor<?x8xf32>
  return
}

// -----

moe.kv_cache @kv heads 1 key 4 value 4 : f32
moe.weight @w : tensor<16x8xf32> = #moe.source<"w" in "" : tensor<16x8xf32>>
moe.weight @b : tensor<12xf32> = #moe.source<"b" in "" : tensor<12xf32>>
func.func @f(%x: tensor<?x8xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.qkv' op C2: weight @b is [12], expected [rows of the weight] = [16]}}
  %0 = moe.qkv %x weight @w bias @b cache @kv at %b heads 2 : tensor<?x8xf32> -> tensor<?x8xf32>
  return
}

// -----

moe.kv_cache @kv heads 1 key 4 value 4 : f32
moe.weight @w : tensor<16x8xf32> = #moe.source<"w" in "" : tensor<16x8xf32>>
func.func @f(%x: tensor<?x8xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.qkv' op C3: result width 16, expected heads * head_dim = 8}}
  %0 = moe.qkv %x weight @w cache @kv at %b heads 2 : tensor<?x8xf32> -> tensor<?x16xf32>
  return
}

// -----

func.func @f(%x: tensor<?x8xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.qkv' op C4: qk_norm per_head needs q_norm and k_norm}}
  %0 = moe.qkv %x weight @w cache @kv at %b heads 2 qk_norm <per_head> q_norm @n : tensor<?x8xf32> -> tensor<?x8xf32>
  return
}

// -----

func.func @f(%x: tensor<?x8xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.qkv' op C4: qk_norm l2_after_rope takes no q_norm or k_norm}}
  %0 = moe.qkv %x weight @w cache @kv at %b heads 2 qk_norm <l2_after_rope> k_norm @n : tensor<?x8xf32> -> tensor<?x8xf32>
  return
}

// -----

moe.kv_cache @kv heads 1 key 4 value 4 : f32
moe.weight @w : tensor<16x8xf32> = #moe.source<"w" in "" : tensor<16x8xf32>>
moe.weight @n : tensor<4xf32> = #moe.source<"n" in "" : tensor<4xf32>>
func.func @f(%x: tensor<?x8xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.qkv' op C4: weight @n is [4], expected [heads * head_dim] = [8]}}
  %0 = moe.qkv %x weight @w cache @kv at %b heads 2 qk_norm <whole> q_norm @n k_norm @n : tensor<?x8xf32> -> tensor<?x8xf32>
  return
}

// -----

func.func @f(%x: tensor<?x8xf32>, %b: !moe.batch) {
  // expected-error-re @below {{'moe.qkv' op C5: clip = {{-8.*}} must be at least 0 and finite}}
  %0 = moe.qkv %x weight @w cache @kv at %b heads 2 clip -8.0 : tensor<?x8xf32> -> tensor<?x8xf32>
  return
}

// -----

moe.kv_cache @kv heads 1 key 4 value 4 : f32
moe.weight @w : tensor<16x8xf32> = #moe.source<"w" in "" : tensor<16x8xf32>>
func.func @f(%x: tensor<?x8xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.qkv' op C6: offset + dim = 8 exceeds the head size 4}}
  %0 = moe.qkv %x weight @w cache @kv at %b heads 2 rope <dim = 8, base = 1.0e+04> : tensor<?x8xf32> -> tensor<?x8xf32>
  return
}

// -----

moe.kv_cache @kv heads 1 key 4 value 0 latent : f32
func.func @f(%x: tensor<?x8xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.qkv' op C7: cache @kv is latent}}
  %0 = moe.qkv %x weight @w cache @kv at %b heads 2 : tensor<?x8xf32> -> tensor<?x8xf32>
  return
}

// -----

func.func @f(%x: tensor<?x8xf32>, %b: !moe.batch) {
  // expected-error-re @below {{'moe.qkv' op C8: temperature_floor = {{0\.0.*}} must be positive and finite}}
  %0 = moe.qkv %x weight @w cache @kv at %b heads 2 temperature_scale 0.1 : tensor<?x8xf32> -> tensor<?x8xf32>
  return
}

// -----

func.func @f(%x: tensor<3x8xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.qkv' op C9: row counts 3 and 4 differ}}
  %0 = moe.qkv %x weight @w cache @kv at %b heads 2 : tensor<3x8xf32> -> tensor<4x8xf32>
  return
}

// -----

// moe.router

moe.weight @w : tensor<4x6xf32> = #moe.source<"w" in "" : tensor<4x6xf32>>
func.func @f(%x: tensor<?x8xf32>) {
  // expected-error @below {{'moe.router' op C1: weight @w is [4, 6], expected [experts, width of x] = [?, 8]}}
  %i, %w, %d = moe.router %x weight @w routing <softmax, top_k = 2> : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

moe.weight @w : tensor<4x8xf32> = #moe.source<"w" in "" : tensor<4x8xf32>>
moe.weight @b : tensor<8xf32> = #moe.source<"b" in "" : tensor<8xf32>>
func.func @f(%x: tensor<?x8xf32>) {
  // expected-error @below {{'moe.router' op C2: weight @b is [8], expected [experts] = [4]}}
  %i, %w, %d = moe.router %x weight @w bias @b routing <softmax, top_k = 2> : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

moe.weight @w : tensor<4x8xf32> = #moe.source<"w" in "" : tensor<4x8xf32>>
func.func @f(%x: tensor<?x8xf32>) {
  // expected-error @below {{'moe.router' op C3: top_k = 5 exceeds the number of experts 4}}
  %i, %w, %d = moe.router %x weight @w routing <softmax, top_k = 5> : tensor<?x8xf32> -> tensor<?x5xi32>, tensor<?x5xf32>
  return
}

// -----

moe.weight @w : tensor<4x8xf32> = #moe.source<"w" in "" : tensor<4x8xf32>>
func.func @f(%x: tensor<?x8xf32>) {
  // expected-error @below {{'moe.router' op C4: ids and weights are 3 and 2 wide, expected top_k = 2}}
  %i, %w, %d = moe.router %x weight @w routing <softmax, top_k = 2> : tensor<?x8xf32> -> tensor<?x3xi32>, tensor<?x2xf32>
  return
}

// -----

moe.weight @w : tensor<4x8xf32> = #moe.source<"w" in "" : tensor<4x8xf32>>
func.func @f(%x: tensor<?x8xf32>) {
  // expected-error @below {{'moe.router' op C5: groups = 3 does not divide the number of experts 4}}
  %i, %w, %d = moe.router %x weight @w routing <softmax, top_k = 2, groups = 3, group_score = max> : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

moe.weight @w : tensor<4x8xf32> = #moe.source<"w" in "" : tensor<4x8xf32>>
func.func @f(%x: tensor<?x8xf32>) {
  // expected-error @below {{'moe.router' op C6: topk_group = 1 groups hold 1 experts, fewer than top_k = 2}}
  %i, %w, %d = moe.router %x weight @w routing <softmax, top_k = 2, groups = 4, group_score = max> : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

moe.weight @w : tensor<4x8xf32> = #moe.source<"w" in "" : tensor<4x8xf32>>
func.func @f(%x: tensor<?x8xf32>) {
  // expected-error @below {{'moe.router' op C7: the sparse mixer asks for top_k = 2, not 3}}
  %i, %w, %d = moe.router %x weight @w routing <softmax, top_k = 3, sparse_mixer> : tensor<?x8xf32> -> tensor<?x3xi32>, tensor<?x3xf32>
  return
}

// -----

func.func @f(%x: tensor<3x8xf32>) {
  // expected-error @below {{'moe.router' op C8: row counts 3 and 4 differ}}
  %i, %w, %d = moe.router %x weight @w routing <softmax, top_k = 2> : tensor<3x8xf32> -> tensor<4x2xi32>, tensor<?x2xf32>
  return
}

// -----

// moe.experts_gate_up

moe.weight @w : tensor<4x6x8xf32> = #moe.source<"w" in "" : tensor<4x6x8xf32>>
func.func @f(%x: tensor<?x8xf32>, %p: tensor<?x2xf32>, %d: !moe.dispatch) {
  // expected-error @below {{'moe.experts_gate_up' op C1: weight @w is [4, 6, 8], expected [experts, 2, width of result, width of x]}}
  %0 = moe.experts_gate_up %x, %p by %d weight @w activation <silu> : tensor<?x8xf32>, tensor<?x2xf32> -> tensor<?x3xf32>
  return
}

// -----

moe.weight @w : tensor<4x2x3x8xf32> = #moe.source<"w" in "" : tensor<4x2x3x8xf32>>
func.func @f(%x: tensor<?x8xf32>, %p: tensor<?x2xf32>, %d: !moe.dispatch) {
  // expected-error @below {{'moe.experts_gate_up' op C1: weight @w is [4, 2, 3, 8], expected [experts, 2, width of result, width of x] = [?, 2, 4, 8]}}
  %0 = moe.experts_gate_up %x, %p by %d weight @w activation <silu> : tensor<?x8xf32>, tensor<?x2xf32> -> tensor<?x4xf32>
  return
}

// -----

moe.weight @w : tensor<4x2x3x8xf32> = #moe.source<"w" in "" : tensor<4x2x3x8xf32>>
moe.weight @b : tensor<4x6xf32> = #moe.source<"b" in "" : tensor<4x6xf32>>
func.func @f(%x: tensor<?x8xf32>, %p: tensor<?x2xf32>, %d: !moe.dispatch) {
  // expected-error @below {{'moe.experts_gate_up' op C2: weight @b is [4, 6], expected [experts, 2, I] = [4, 2, 3]}}
  %0 = moe.experts_gate_up %x, %p by %d weight @w bias @b activation <silu> : tensor<?x8xf32>, tensor<?x2xf32> -> tensor<?x3xf32>
  return
}

// -----

func.func @f(%x: tensor<3x8xf32>, %p: tensor<4x2xf32>, %d: !moe.dispatch) {
  // expected-error @below {{'moe.experts_gate_up' op C3: row counts 3 and 4 differ}}
  %0 = moe.experts_gate_up %x, %p by %d weight @w activation <silu> : tensor<3x8xf32>, tensor<4x2xf32> -> tensor<?x3xf32>
  return
}

// -----

// moe.experts_down

moe.weight @w : tensor<4x8x3xf32> = #moe.source<"w" in "" : tensor<4x8x3xf32>>
func.func @f(%h: tensor<?x4xf32>, %p: tensor<?x2xf32>, %d: !moe.dispatch) {
  // expected-error @below {{'moe.experts_down' op C1: weight @w is [4, 8, 3], expected [experts, width of result, width of h] = [?, 8, 4]}}
  %0 = moe.experts_down %h, %p by %d weight @w : tensor<?x4xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  return
}

// -----

moe.weight @w : tensor<4x8x3xf32> = #moe.source<"w" in "" : tensor<4x8x3xf32>>
moe.weight @b : tensor<4x3xf32> = #moe.source<"b" in "" : tensor<4x3xf32>>
func.func @f(%h: tensor<?x3xf32>, %p: tensor<?x2xf32>, %d: !moe.dispatch) {
  // expected-error @below {{'moe.experts_down' op C2: weight @b is [4, 3], expected [experts, H] = [4, 8]}}
  %0 = moe.experts_down %h, %p by %d weight @w bias @b : tensor<?x3xf32>, tensor<?x2xf32> -> tensor<?x8xf32>
  return
}

// -----

func.func @f(%h: tensor<?x3xf32>, %p: tensor<3x2xf32>, %d: !moe.dispatch) {
  // expected-error @below {{'moe.experts_down' op C3: row counts 3 and 4 differ}}
  %0 = moe.experts_down %h, %p by %d weight @w : tensor<?x3xf32>, tensor<3x2xf32> -> tensor<4x8xf32>
  return
}

// -----

// moe.ffn_gate_up

moe.weight @w : tensor<2x3x8xf32> = #moe.source<"w" in "" : tensor<2x3x8xf32>>
func.func @f(%x: tensor<?x8xf32>) {
  // expected-error @below {{'moe.ffn_gate_up' op C1: weight @w is [2, 3, 8], expected [2, width of result, width of x] = [2, 4, 8]}}
  %0 = moe.ffn_gate_up %x weight @w activation <silu> : tensor<?x8xf32> -> tensor<?x4xf32>
  return
}

// -----

moe.weight @w : tensor<2x3x8xf32> = #moe.source<"w" in "" : tensor<2x3x8xf32>>
moe.weight @b : tensor<6xf32> = #moe.source<"b" in "" : tensor<6xf32>>
func.func @f(%x: tensor<?x8xf32>) {
  // expected-error @below {{'moe.ffn_gate_up' op C2: weight @b is [6], expected [2, I] = [2, 3]}}
  %0 = moe.ffn_gate_up %x weight @w bias @b activation <silu> : tensor<?x8xf32> -> tensor<?x3xf32>
  return
}

// -----

func.func @f(%x: tensor<3x8xf32>) {
  // expected-error @below {{'moe.ffn_gate_up' op C3: row counts 3 and 4 differ}}
  %0 = moe.ffn_gate_up %x weight @w activation <silu> : tensor<3x8xf32> -> tensor<4x3xf32>
  return
}

// -----

// Collectives.

func.func @f(%x: tensor<?x8xf32>) {
  // expected-error @below {{'moe.all_reduce' op C1: rank 1 is listed twice}}
  %0 = moe.all_reduce %x ranks [0, 1, 1] : tensor<?x8xf32>
  return
}

// -----

func.func @f(%x: tensor<?x8xf32>) {
  // expected-error @below {{'moe.all_gather' op C1: rank -1 is negative}}
  %0 = moe.all_gather %x ranks [0, -1] : tensor<?x8xf32> -> tensor<?x8xf32>
  return
}

// -----

func.func @f(%x: tensor<?x8xf32>) {
  // expected-error @below {{'moe.all_gather' op C2: widths 8 and 16 differ}}
  %0 = moe.all_gather %x ranks [0, 1] : tensor<?x8xf32> -> tensor<?x16xf32>
  return
}

// -----

func.func @f(%x: tensor<?x8xf32>) {
  // expected-error @below {{'moe.reduce_scatter' op C1: the list of ranks is empty}}
  %0 = moe.reduce_scatter %x ranks [] : tensor<?x8xf32> -> tensor<?x8xf32>
  return
}

// -----

func.func @f(%x: tensor<?x8xf32>) {
  // expected-error @below {{'moe.reduce_scatter' op C2: widths 8 and 4 differ}}
  %0 = moe.reduce_scatter %x ranks [0, 1] : tensor<?x8xf32> -> tensor<?x4xf32>
  return
}

// -----

func.func @f(%i: tensor<?x2xi32>) {
  // expected-error @below {{'moe.assign_slots' op C1: slots [1] is not one array<i64: ...> for each group}}
  %d = moe.assign_slots %i group 0 of [1 : i64] : tensor<?x2xi32>
  return
}

// -----

func.func @f(%i: tensor<?x2xi32>) {
  // expected-error @below {{'moe.assign_slots' op C2: group 2 is not one of 2 groups}}
  %d = moe.assign_slots %i group 2 of [array<i64: 0, 1>, array<i64: 2>] : tensor<?x2xi32>
  return
}

// -----

func.func @f(%i: tensor<?x2xi32>) {
  // expected-error @below {{'moe.assign_slots' op C3: group 0 holds expert 0 twice}}
  %d = moe.assign_slots %i group 0 of [array<i64: 0, 1, 0>, array<i64: 2>] : tensor<?x2xi32>
  return
}

// -----

func.func @f(%i: tensor<?x2xi32>) {
  // expected-error @below {{'moe.assign_slots' op C3: expert 2 has no slot}}
  %d = moe.assign_slots %i group 0 of [array<i64: 0, 1>, array<i64: 3>] : tensor<?x2xi32>
  return
}

// -----

func.func @f(%i: tensor<?x2xi32>) {
  // expected-error @below {{'moe.assign_slots' op C3: group 0 holds expert -2, outside [0, 1]}}
  %d = moe.assign_slots %i group 0 of [array<i64: 0, -2>, array<i64: 1>] : tensor<?x2xi32>
  return
}

// -----

func.func @f(%i: tensor<?x2xi32>) {
  // expected-error @below {{'moe.assign_slots' op C4: ids are 2 wide, but there are 1 experts}}
  %d = moe.assign_slots %i group 0 of [array<i64: 0>] : tensor<?x2xi32>
  return
}

// -----

moe.weight @r : tensor<4x8xf32> = #moe.source<"r" in "" : tensor<4x8xf32>>
func.func @f(%x: tensor<?x8xf32>) {
  // expected-error @below {{'moe.router' op C9: expert 3 has no slot}}
  %i, %w, %d = moe.router %x weight @r routing <softmax, top_k = 2> placement {slots = [array<i64: 0, 1, 2>]} : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

moe.weight @r : tensor<4x8xf32> = #moe.source<"r" in "" : tensor<4x8xf32>>
func.func @f(%x: tensor<?x8xf32>) {
  // expected-error @below {{'moe.router' op C9: placement {ranks = 2 : i64} has no slots = [array<i64: ...>, ...], one list per group}}
  %i, %w, %d = moe.router %x weight @r routing <softmax, top_k = 2> placement {ranks = 2 : i64} : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

// moe.latent_query

moe.weight @w : tensor<3x8x4xf32> = #moe.source<"w" in "" : tensor<3x8x4xf32>>
func.func @f(%x: tensor<?x12xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.latent_query' op C1: weight @w is [3, 8, 4], expected [heads, latent, nope] = [2, ?, ?]}}
  %0 = moe.latent_query %x weight @w at %b heads 2 : tensor<?x12xf32> -> tensor<?x20xf32>
  return
}

// -----

moe.weight @w : tensor<2x8x4xf32> = #moe.source<"w" in "" : tensor<2x8x4xf32>>
func.func @f(%x: tensor<?x6xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.latent_query' op C2: width 6 of x, expected heads * (nope + rope) with heads = 2 and nope = 4}}
  %0 = moe.latent_query %x weight @w at %b heads 2 : tensor<?x6xf32> -> tensor<?x20xf32>
  return
}

// -----

moe.weight @w : tensor<2x8x4xf32> = #moe.source<"w" in "" : tensor<2x8x4xf32>>
func.func @f(%x: tensor<?x12xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.latent_query' op C3: result width 12, expected heads * (latent + rope) = 20}}
  %0 = moe.latent_query %x weight @w at %b heads 2 : tensor<?x12xf32> -> tensor<?x12xf32>
  return
}

// -----

moe.weight @w : tensor<2x8x4xf32> = #moe.source<"w" in "" : tensor<2x8x4xf32>>
func.func @f(%x: tensor<?x12xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.latent_query' op C4: the rotation begins at 2, before the rope part at 4}}
  %0 = moe.latent_query %x weight @w at %b heads 2 rope <dim = 2, offset = 2, base = 1.0e+04> : tensor<?x12xf32> -> tensor<?x20xf32>
  return
}

// -----

moe.weight @w : tensor<2x8x4xf32> = #moe.source<"w" in "" : tensor<2x8x4xf32>>
func.func @f(%x: tensor<?x12xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.latent_query' op C4: offset + dim = 8 exceeds the head size 6}}
  %0 = moe.latent_query %x weight @w at %b heads 2 rope <dim = 4, offset = 4, base = 1.0e+04> : tensor<?x12xf32> -> tensor<?x20xf32>
  return
}

// -----

func.func @f(%x: tensor<3x12xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.latent_query' op C5: }}
  %0 = moe.latent_query %x weight @w at %b heads 2 : tensor<3x12xf32> -> tensor<4x20xf32>
  return
}

// -----

// moe.latent_append

moe.kv_cache @kv heads 1 key 10 value 10 : f32
moe.weight @n : tensor<8xf32> = #moe.source<"n" in "" : tensor<8xf32>>
func.func @f(%x: tensor<?x10xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.latent_append' op C1: cache @kv is not latent}}
  moe.latent_append %x norm @n eps 1.0e-06 to @kv at %b : tensor<?x10xf32>
  return
}

// -----

moe.kv_cache @kv heads 1 key 10 value 0 latent : f32
moe.weight @n : tensor<8xf32> = #moe.source<"n" in "" : tensor<8xf32>>
func.func @f(%x: tensor<?x12xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.latent_append' op C2: width 12 of x, expected the cache's key 10}}
  moe.latent_append %x norm @n eps 1.0e-06 to @kv at %b : tensor<?x12xf32>
  return
}

// -----

moe.kv_cache @kv heads 1 key 10 value 0 latent : f32
moe.weight @n : tensor<11xf32> = #moe.source<"n" in "" : tensor<11xf32>>
func.func @f(%x: tensor<?x10xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.latent_append' op C3: weight @n is [11], expected [latent] of at most the cache's key 10}}
  moe.latent_append %x norm @n eps 1.0e-06 to @kv at %b : tensor<?x10xf32>
  return
}

// -----

func.func @f(%x: tensor<?x10xf32>, %b: !moe.batch) {
  // expected-error-re @below {{'moe.latent_append' op C4: eps = {{0\.0.*}} must be positive and finite}}
  moe.latent_append %x norm @n eps 0.0 to @kv at %b : tensor<?x10xf32>
  return
}

// -----

moe.kv_cache @kv heads 1 key 10 value 0 latent : f32
moe.weight @n : tensor<8xf32> = #moe.source<"n" in "" : tensor<8xf32>>
func.func @f(%x: tensor<?x10xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.latent_append' op C5: offset + dim = 4 exceeds the head size 2}}
  moe.latent_append %x norm @n eps 1.0e-06 to @kv at %b rope <dim = 4, base = 1.0e+04> : tensor<?x10xf32>
  return
}

// -----

// moe.absorbed_attention

moe.kv_cache @kv heads 1 key 10 value 10 : f32
moe.weight @w : tensor<2x4x8xf32> = #moe.source<"w" in "" : tensor<2x4x8xf32>>
func.func @f(%x: tensor<?x20xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.absorbed_attention' op C1: cache @kv is not latent}}
  %0 = moe.absorbed_attention %x cache @kv weight @w at %b heads 2 scale 0.5 : tensor<?x20xf32> -> tensor<?x8xf32>
  return
}

// -----

moe.kv_cache @kv heads 1 key 10 value 0 latent : f32
moe.weight @w : tensor<2x4x11xf32> = #moe.source<"w" in "" : tensor<2x4x11xf32>>
func.func @f(%x: tensor<?x20xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.absorbed_attention' op C2: weight @w is [2, 4, 11], expected [heads, value, latent] = [2, ?, at most the cache's key 10]}}
  %0 = moe.absorbed_attention %x cache @kv weight @w at %b heads 2 scale 0.5 : tensor<?x20xf32> -> tensor<?x8xf32>
  return
}

// -----

moe.kv_cache @kv heads 1 key 10 value 0 latent : f32
moe.weight @w : tensor<2x4x8xf32> = #moe.source<"w" in "" : tensor<2x4x8xf32>>
func.func @f(%x: tensor<?x12xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.absorbed_attention' op C3: query width 12, expected heads * head_dim = 20}}
  %0 = moe.absorbed_attention %x cache @kv weight @w at %b heads 2 scale 0.5 : tensor<?x12xf32> -> tensor<?x8xf32>
  return
}

// -----

moe.kv_cache @kv heads 1 key 10 value 0 latent : f32
moe.weight @w : tensor<2x4x8xf32> = #moe.source<"w" in "" : tensor<2x4x8xf32>>
func.func @f(%x: tensor<?x20xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.absorbed_attention' op C4: result width 20, expected heads * value = 8}}
  %0 = moe.absorbed_attention %x cache @kv weight @w at %b heads 2 scale 0.5 : tensor<?x20xf32> -> tensor<?x20xf32>
  return
}

// -----

func.func @f(%x: tensor<3x20xf32>, %b: !moe.batch) {
  // expected-error @below {{'moe.absorbed_attention' op C5: }}
  %0 = moe.absorbed_attention %x cache @kv weight @w at %b heads 2 scale 0.5 : tensor<3x20xf32> -> tensor<4x8xf32>
  return
}
