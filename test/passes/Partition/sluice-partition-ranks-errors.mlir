// RUN: sluice-opt --sluice-partition-ranks %s -verify-diagnostics -split-input-file

// expected-error@+1 {{no model function @step to partition}}
module {
}

// -----

module attributes {moe.parallel = {ranks = 2 : i64, tp = 1 : i64, ep = 2 : i64, dp = 1 : i64}} {
  moe.weight @router : tensor<4x32xf32> = #moe.source<"router" in "m" : tensor<4x32xf32>>
  func.func @step(%x: tensor<?x32xf32>) -> tensor<?x2xf32> {
    // expected-error@+1 {{has a placement over 1 groups, but moe.parallel has ep = 2; run --sluice-place-experts with as many groups}}
    %i, %w, %d = moe.router %x weight @router routing <softmax, top_k = 2> placement {slots = [array<i64: 0, 1, 2, 3>]}
        : tensor<?x32xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
    return %w : tensor<?x2xf32>
  }
}

// -----

module attributes {moe.parallel = {ranks = 2 : i64, tp = 1 : i64, ep = 2 : i64, dp = 1 : i64}} {
  moe.weight @router : tensor<2x32xf32> = #moe.source<"router" in "m" : tensor<2x32xf32>>
  func.func @step(%x: tensor<?x32xf32>) -> tensor<?x2xf32> {
    // expected-error@+1 {{places no expert on group 1; every group must hold at least one}}
    %i, %w, %d = moe.router %x weight @router routing <softmax, top_k = 2> placement {slots = [array<i64: 0, 1>, array<i64: -1>]}
        : tensor<?x32xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
    return %w : tensor<?x2xf32>
  }
}

// -----

// Width 96 in blocks of 32 columns: three ranks would do, two cut a block.
module attributes {moe.parallel = {ranks = 2 : i64, tp = 2 : i64, ep = 1 : i64, dp = 1 : i64}} {
  moe.weight @router : tensor<2x32xf32> = #moe.source<"router" in "m" : tensor<2x32xf32>>
  moe.weight @gate_up : tensor<2x2x96x32xf32> = #moe.source<"gu" in "m" : tensor<2x2x96x32xf32>>
  moe.weight @down : tensor<2x32x96xf32> = #moe.dequantize<#moe.source<"d" in "m" : tensor<2x32x96xf4E2M1FN>> by #moe.source<"s" in "m" : tensor<2x32x3xf8E8M0FNU>> group = 32>
  func.func @step(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
    %i, %w, %d = moe.router %x weight @router routing <softmax, top_k = 2> : tensor<?x32xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
    // expected-error@+1 {{cannot split an expert's width 96 over tp = 2 ranks: @down has a scale for every 32 columns, and the part [0, 48) cuts such a block; use a tp that divides the 3 blocks, or raise ep}}
    %g = moe.experts_gate_up %x, %w by %d weight @gate_up activation <silu> : tensor<?x32xf32>, tensor<?x2xf32> -> tensor<?x96xf32>
    %e = moe.experts_down %g, %w by %d weight @down : tensor<?x96xf32>, tensor<?x2xf32> -> tensor<?x32xf32>
    return %e : tensor<?x32xf32>
  }
}
