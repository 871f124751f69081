// RUN: sluice-opt --sluice-fuse-router %s | FileCheck %s

moe.weight @router : tensor<8x32xbf16> = #moe.source<"router" in "m" : tensor<8x32xbf16>>
moe.weight @bias : tensor<8xf32> = #moe.source<"bias" in "m" : tensor<8xf32>>

// CHECK-LABEL: func.func @step(
// CHECK-SAME: %[[X:.*]]: tensor<?x32xf32>)
func.func @step(%x: tensor<?x32xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>) {
  // CHECK-NEXT: %[[IDS:.*]], %[[W:.*]], %{{.*}} = moe.router %[[X]] weight @router bias @bias routing <sigmoid, top_k = 2, renormalize> correction @bias
  // CHECK-NEXT: return %[[IDS]], %[[W]]
  %l = moe.linear %x weight @router bias @bias : tensor<?x32xf32> -> tensor<?x8xf32>
  %ids, %w = moe.route %l routing <sigmoid, top_k = 2, renormalize> correction @bias
      : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %w : tensor<?x2xi32>, tensor<?x2xf32>
}
