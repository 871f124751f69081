// RUN: sluice-opt --sluice-fuse-experts %s | FileCheck %s

moe.weight @layers.0.router : tensor<8x32xbf16> = #moe.source<"router" in "m" : tensor<8x32xbf16>>
// CHECK: moe.weight @layers.0.experts.gate_up : tensor<8x2x16x32xbf16> = #moe.concat<axis = 1, [#moe.reshape<#moe.stack<"e.{}.w1" x 8 in ["m"] : tensor<8x16x32xbf16>> to tensor<8x1x16x32xbf16>>, #moe.reshape<#moe.stack<"e.{}.w3" x 8 {{.*}} to tensor<8x1x16x32xbf16>>]>
// CHECK: moe.weight @layers.0.experts.gate_up_bias : tensor<8x2x16xbf16>
moe.weight @layers.0.experts.gate : tensor<8x16x32xbf16> = #moe.stack<"e.{}.w1" x 8 in ["m"] : tensor<8x16x32xbf16>>
moe.weight @layers.0.experts.gate_bias : tensor<8x16xbf16> = #moe.source<"gb" in "m" : tensor<8x16xbf16>>
moe.weight @layers.0.experts.up : tensor<8x16x32xbf16> = #moe.stack<"e.{}.w3" x 8 in ["m"] : tensor<8x16x32xbf16>>
moe.weight @layers.0.experts.up_bias : tensor<8x16xbf16> = #moe.source<"ub" in "m" : tensor<8x16xbf16>>
moe.weight @layers.0.experts.down : tensor<8x32x16xbf16> = #moe.stack<"e.{}.w2" x 8 in ["m"] : tensor<8x32x16xbf16>>
moe.weight @layers.0.experts.down_bias : tensor<8x32xbf16> = #moe.source<"db" in "m" : tensor<8x32xbf16>>
// CHECK: moe.weight @layers.1.ffn.gate_up : tensor<2x16x32xbf16> = #moe.concat<axis = 0,
moe.weight @layers.1.ffn.gate : tensor<16x32xbf16> = #moe.source<"g" in "m" : tensor<16x32xbf16>>
moe.weight @layers.1.ffn.up : tensor<16x32xbf16> = #moe.source<"u" in "m" : tensor<16x32xbf16>>
moe.weight @layers.1.ffn.down : tensor<32x16xbf16> = #moe.source<"d" in "m" : tensor<32x16xbf16>>

// CHECK-LABEL: func.func @experts(
// CHECK-SAME: %[[X:.*]]: tensor<?x32xf32>)
func.func @experts(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  // CHECK: %{{.*}}, %[[W:.*]], %[[D:.*]] = moe.router
  %ids, %w, %dispatch = moe.router %x weight @layers.0.router routing <softmax, top_k = 2>
      : tensor<?x32xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  // CHECK-NEXT: %[[H:.*]] = moe.experts_gate_up %[[X]], %[[W]] by %[[D]] weight @layers.0.experts.gate_up bias @layers.0.experts.gate_up_bias activation <silu> : tensor<?x32xf32>, tensor<?x2xf32> -> tensor<?x16xf32>
  // CHECK-NEXT: %[[Y:.*]] = moe.experts_down %[[H]], %[[W]] by %[[D]] weight @layers.0.experts.down bias @layers.0.experts.down_bias :
  // CHECK-NEXT: return %[[Y]]
  %y = moe.experts %x, %ids, %w gate @layers.0.experts.gate up @layers.0.experts.up down @layers.0.experts.down
       gate_bias @layers.0.experts.gate_bias up_bias @layers.0.experts.up_bias down_bias @layers.0.experts.down_bias
       activation <silu> : tensor<?x32xf32>, tensor<?x2xi32>, tensor<?x2xf32> -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}

// CHECK-LABEL: func.func @dense(
// CHECK-SAME: %[[X:.*]]: tensor<?x32xf32>)
func.func @dense(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  // CHECK-NEXT: %[[H:.*]] = moe.ffn_gate_up %[[X]] weight @layers.1.ffn.gate_up activation <gelu> :
  // CHECK-NEXT: moe.linear %[[H]] weight @layers.1.ffn.down :
  %y = moe.ffn %x gate @layers.1.ffn.gate up @layers.1.ffn.up down @layers.1.ffn.down activation <gelu>
       : tensor<?x32xf32> -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}
