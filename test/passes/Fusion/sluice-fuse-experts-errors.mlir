// RUN: sluice-opt --sluice-fuse-experts %s -verify-diagnostics

moe.weight @gate : tensor<8x16x32xbf16> = #moe.stack<"e.{}.w1" x 8 in ["m"] : tensor<8x16x32xbf16>>
moe.weight @down : tensor<8x32x16xbf16> = #moe.stack<"e.{}.w2" x 8 in ["m"] : tensor<8x32x16xbf16>>

func.func @step(%x: tensor<?x32xf32>, %ids: tensor<?x2xi32>, %w: tensor<?x2xf32>) -> tensor<?x32xf32> {
  // expected-error@+2 {{cannot fuse the experts: ids and weights do not come from one moe.router}}
  // expected-note@+1 {{run --sluice-fuse-router first}}
  %y = moe.experts %x, %ids, %w gate @gate up @gate down @down activation <silu>
       : tensor<?x32xf32>, tensor<?x2xi32>, tensor<?x2xf32> -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}
