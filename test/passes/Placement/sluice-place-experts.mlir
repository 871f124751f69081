// Without a profile experts are dealt out in contiguous parts, the remainder going where rounding
// puts it, and more slots than experts in turn.
//
// RUN: sluice-opt --sluice-place-experts %s | FileCheck %s --check-prefix=ONE
// RUN: sluice-opt --sluice-place-experts=groups=3 %s | FileCheck %s --check-prefix=THREE
// RUN: sluice-opt '--sluice-place-experts=groups=4 slots=11' %s | FileCheck %s --check-prefix=MORE
//
// With one, layer 2's row counts: expert 0 has half of the tokens and gets the spare slots, the
// others share the groups evenly. The second row is of a layer that this module has not.
//
// RUN: echo '{"logical_count": [[1,1,1,1,1,1,1,9],[9,1,1,1,1,1,1,1],[14,2,2,2,2,2,2,2]]}' > %t.json
// RUN: sluice-opt '--sluice-place-experts=groups=4 slots=11 profiles=%t.json' %s | FileCheck %s --check-prefix=PROFILE
// RUN: sluice-opt '--sluice-place-experts=groups=2 profiles=%t.json,%t.json' %s | FileCheck %s --check-prefix=PLAIN

moe.weight @layers.2.gate : tensor<8x16x32xbf16> = #moe.stack<"e.{}.w1" x 8 in ["m"] : tensor<8x16x32xbf16>>
moe.weight @layers.2.down : tensor<8x32x16xbf16> = #moe.stack<"e.{}.w2" x 8 in ["m"] : tensor<8x32x16xbf16>>

func.func @step(%x: tensor<?x32xf32>, %ids: tensor<?x2xi32>, %w: tensor<?x2xf32>) -> tensor<?x32xf32> {
  // ONE: placement {slots = [array<i64: 0, 1, 2, 3, 4, 5, 6, 7>]}
  // THREE: placement {slots = [array<i64: 0, 1>, array<i64: 2, 3, 4>, array<i64: 5, 6, 7>]}
  // MORE: placement {slots = [array<i64: 0, 1, 2>, array<i64: 3, 4, 5>, array<i64: 6, 7, 0>, array<i64: 1, 2>]}
  // PROFILE: placement {slots = [array<i64: 0, {{[1-7]}}, {{[1-7]}}>, array<i64: 0, {{[1-7]}}, {{[1-7]}}>, array<i64: 0, {{[1-7]}}, {{[1-7]}}>, array<i64: 0, {{[1-7]}}>]}
  // PLAIN: placement {slots = [array<i64: {{.*}}>, array<i64: {{.*}}>]}
  %y = moe.experts %x, %ids, %w gate @layers.2.gate up @layers.2.gate down @layers.2.down activation <silu>
       : tensor<?x32xf32>, tensor<?x2xi32>, tensor<?x2xf32> -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}
