// RUN: sluice-opt --sluice-fuse-router %s -verify-diagnostics -split-input-file

moe.weight @router : tensor<8x32xbf16> = #moe.source<"router" in "m" : tensor<8x32xbf16>>

func.func @shared_logits(%x: tensor<?x32xf32>) -> (tensor<?x2xi32>, tensor<?x8xf32>) {
  // expected-note@+1 {{the logits come from here}}
  %l = moe.linear %x weight @router : tensor<?x32xf32> -> tensor<?x8xf32>
  // expected-error@+1 {{cannot fuse the router: its logits are not the plain result of one moe.linear that nothing else reads}}
  %ids, %w = moe.route %l routing <softmax, top_k = 2> : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids, %l : tensor<?x2xi32>, tensor<?x8xf32>
}

// -----

func.func @no_product(%l: tensor<?x8xf32>) -> tensor<?x2xi32> {
  // expected-error@+1 {{cannot fuse the router}}
  %ids, %w = moe.route %l routing <softmax, top_k = 2> : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  return %ids : tensor<?x2xi32>
}
