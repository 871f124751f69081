// Without tp and ep, experts are dealt to as many groups as divide the ranks.
//
// RUN: sluice-opt --sluice-parallelize-model="ranks=4" %s | FileCheck %s --check-prefix=P0
// P0: moe.parallel = {dp = 1 : i64, ep = 4 : i64, ranks = 4 : i64, tp = 1 : i64}
// RUN: sluice-opt --sluice-parallelize-model="ranks=16" %s | FileCheck %s --check-prefix=P1
// P1: moe.parallel = {dp = 1 : i64, ep = 8 : i64, ranks = 16 : i64, tp = 2 : i64}
// RUN: sluice-opt --sluice-parallelize-model="ranks=12" %s | FileCheck %s --check-prefix=P2
// P2: moe.parallel = {dp = 1 : i64, ep = 6 : i64, ranks = 12 : i64, tp = 2 : i64}
// RUN: sluice-opt --sluice-parallelize-model="ranks=6 tp=3" %s | FileCheck %s --check-prefix=P3
// P3: moe.parallel = {dp = 1 : i64, ep = 2 : i64, ranks = 6 : i64, tp = 3 : i64}

module {
moe.weight @gate : tensor<8x16x32xbf16> = #moe.stack<"e.{}.w1" x 8 in ["m"] : tensor<8x16x32xbf16>>
moe.weight @down : tensor<8x32x16xbf16> = #moe.stack<"e.{}.w2" x 8 in ["m"] : tensor<8x32x16xbf16>>
func.func @step(%x: tensor<?x32xf32>, %ids: tensor<?x2xi32>, %w: tensor<?x2xf32>) -> tensor<?x32xf32> {
  %y = moe.experts %x, %ids, %w gate @gate up @gate down @down activation <silu>
       : tensor<?x32xf32>, tensor<?x2xi32>, tensor<?x2xf32> -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}
}
