// RUN: sluice-opt --sluice-fuse-residual-norm %s | FileCheck %s

moe.weight @norm : tensor<32xbf16> = #moe.source<"norm" in "m" : tensor<32xbf16>>
moe.weight @head_norm : tensor<8xbf16> = #moe.source<"head_norm" in "m" : tensor<8xbf16>>
moe.weight @w : tensor<32x32xbf16> = #moe.source<"w" in "m" : tensor<32x32xbf16>>

// The sum is read by a norm and by the next residual: both get the merged operation's results.
// CHECK-LABEL: func.func @chain(
// CHECK-SAME: %[[X:.*]]: tensor<?x32xf32>, %[[D:.*]]: tensor<?x32xf32>)
func.func @chain(%x: tensor<?x32xf32>, %d: tensor<?x32xf32>) -> tensor<?x32xf32> {
  // CHECK-NEXT: %[[SUM:.*]], %[[N:.*]] = moe.residual_norm rms %[[X]], %[[D]] weight @norm eps 1.0e-05 multiplier 0.22 :
  %s = moe.residual %x, %d multiplier 0.22 : tensor<?x32xf32>
  %n = moe.norm rms %s weight @norm eps 1.0e-05 : tensor<?x32xf32>
  // CHECK-NEXT: %[[Y:.*]] = moe.linear %[[N]] weight @w
  %y = moe.linear %n weight @w : tensor<?x32xf32> -> tensor<?x32xf32>
  // No norm reads this one: it stays.
  // CHECK-NEXT: moe.residual %[[SUM]], %[[Y]] : tensor
  %r = moe.residual %s, %y : tensor<?x32xf32>
  return %r : tensor<?x32xf32>
}

// Two norms of one sum: the first in program order is merged, the other reads the sum.
// CHECK-LABEL: func.func @two_norms(
func.func @two_norms(%x: tensor<?x32xf32>, %d: tensor<?x32xf32>) -> (tensor<?x32xf32>, tensor<?x32xf32>) {
  // CHECK-NEXT: %[[SUM:.*]], %[[A:.*]] = moe.residual_norm rms {{.*}} eps 1.0e-05 :
  // CHECK-NEXT: %[[B:.*]] = moe.norm rms %[[SUM]] weight @norm eps 1.0e-06
  // CHECK-NEXT: return %[[A]], %[[B]]
  %s = moe.residual %x, %d : tensor<?x32xf32>
  %a = moe.norm rms %s weight @norm eps 1.0e-05 : tensor<?x32xf32>
  %b = moe.norm rms %s weight @norm eps 1.0e-06 : tensor<?x32xf32>
  return %a, %b : tensor<?x32xf32>, tensor<?x32xf32>
}

// A norm per head is another operation and is left alone.
// CHECK-LABEL: func.func @per_head(
func.func @per_head(%x: tensor<?x32xf32>, %d: tensor<?x32xf32>) -> tensor<?x32xf32> {
  // CHECK-NOT: moe.residual_norm
  // CHECK: moe.norm rms %{{.*}} weight @head_norm eps 1.0e-05 groups 4
  %s = moe.residual %x, %d : tensor<?x32xf32>
  %n = moe.norm rms %s weight @head_norm eps 1.0e-05 groups 4 : tensor<?x32xf32>
  return %n : tensor<?x32xf32>
}
