// Experts are dealt out in contiguous parts; the remainder goes where rounding puts it.
//
// RUN: sluice-opt --sluice-place-experts %s | FileCheck %s --check-prefix=ONE
// RUN: sluice-opt --sluice-place-experts=ranks=3 %s | FileCheck %s --check-prefix=THREE

moe.weight @gate : tensor<8x16x32xbf16> = #moe.stack<"e.{}.w1" x 8 in ["m"] : tensor<8x16x32xbf16>>
moe.weight @down : tensor<8x32x16xbf16> = #moe.stack<"e.{}.w2" x 8 in ["m"] : tensor<8x32x16xbf16>>

func.func @step(%x: tensor<?x32xf32>, %ids: tensor<?x2xi32>, %w: tensor<?x2xf32>) -> tensor<?x32xf32> {
  // ONE: placement {ranks = 1 : i64, slots = [array<i64: 0, 1, 2, 3, 4, 5, 6, 7>]}
  // THREE: placement {ranks = 3 : i64, slots = [array<i64: 0, 1>, array<i64: 2, 3, 4>, array<i64: 5, 6, 7>]}
  %y = moe.experts %x, %ids, %w gate @gate up @gate down @down activation <silu>
       : tensor<?x32xf32>, tensor<?x2xi32>, tensor<?x2xf32> -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}
