// RUN: not sluice-opt --sluice-parallelize-model="ranks=0" %s 2>&1 | FileCheck %s --check-prefix=E0
// E0: error: ranks = 0 is outside [1, 4096]
// RUN: not sluice-opt --sluice-parallelize-model="ranks=6 tp=4" %s 2>&1 | FileCheck %s --check-prefix=E1
// E1: error: tp * ep = 4 * 1 is not ranks = 6; give a tp or an ep that divides the ranks
// RUN: not sluice-opt --sluice-parallelize-model="ranks=16 ep=16" %s 2>&1 | FileCheck %s --check-prefix=E2
// E2: error: ep = 16 exceeds the number of experts 8; every group must hold at least one: lower ep and raise tp
// RUN: not sluice-opt --sluice-parallelize-model="ranks=4 dp=3" %s 2>&1 | FileCheck %s --check-prefix=E3
// E3: error: dp = 3 does not divide ranks = 4
// RUN: not sluice-opt --sluice-parallelize-model="ranks=4 tp=-1" %s 2>&1 | FileCheck %s --check-prefix=E4
// E4: error: tp = -1, ep = 0, dp = 1: numbers of ranks are positive

module {
moe.weight @gate : tensor<8x16x32xbf16> = #moe.stack<"e.{}.w1" x 8 in ["m"] : tensor<8x16x32xbf16>>
moe.weight @down : tensor<8x32x16xbf16> = #moe.stack<"e.{}.w2" x 8 in ["m"] : tensor<8x32x16xbf16>>
func.func @step(%x: tensor<?x32xf32>, %ids: tensor<?x2xi32>, %w: tensor<?x2xf32>) -> tensor<?x32xf32> {
  %y = moe.experts %x, %ids, %w gate @gate up @gate down @down activation <silu>
       : tensor<?x32xf32>, tensor<?x2xi32>, tensor<?x2xf32> -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}
}
