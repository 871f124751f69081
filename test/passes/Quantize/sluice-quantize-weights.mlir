// Which weights each rule takes, and what stays as it is.
//
// RUN: sluice-opt --sluice-quantize-weights="rules=fp8-block" %s -verify-diagnostics | FileCheck %s --check-prefixes=CHECK,ALL
// RUN: sluice-opt --sluice-quantize-weights="rules=int4-g32,mxfp4:experts+shared exclude=layers.0.q,*.ffn.*" %s \
// RUN:   -verify-diagnostics | FileCheck %s --check-prefixes=CHECK,SCOPES
// RUN: sluice-opt --sluice-quantize-weights="rules=nvfp4:experts activations=fp8" %s | FileCheck %s --check-prefixes=CHECK,EXPERTS
// RUN: sluice-opt --sluice-convert-weights=format=bf16 --sluice-quantize-weights=rules=int8-channel:attention %s | FileCheck %s --check-prefix=AGAIN

// ALL-NOT: moe.activations
// EXPERTS: moe.activations = "f8e4m3:group128"
module {
// CHECK: moe.weight @embed : tensor<64x64xbf16> = #moe.source
moe.weight @embed : tensor<64x64xbf16> = #moe.source<"embed" in "m" : tensor<64x64xbf16>>
// ALL: @layers.0.q : tensor<64x64xf32> = #moe.quantize<#moe.source<"q" in "m" : tensor<64x64xbf16>> to "f8e4m3:block128x128">{{$}}
// SCOPES: @layers.0.q : tensor<64x64xbf16> = #moe.source
// EXPERTS: @layers.0.q : tensor<64x64xbf16> = #moe.source
// AGAIN: @layers.0.q : tensor<64x64xf32> = #moe.quantize<#moe.source<"q" in "m" : tensor<64x64xbf16>> to "i8:channel">
moe.weight @layers.0.q : tensor<64x64xbf16> = #moe.source<"q" in "m" : tensor<64x64xbf16>>
// A checkpoint's own codes are kept; converted to numbers first, they are numbers.
// CHECK: @layers.0.o : tensor<64x64xf32> = #moe.dequantize
// AGAIN: @layers.0.o : tensor<64x64xf32> = #moe.quantize<#moe.convert<#moe.dequantize<{{.*}}> to bf16> to "i8:channel">
// expected-remark @below {{weight @layers.0.o is quantised in the checkpoint and keeps its codes}}
moe.weight @layers.0.o : tensor<64x64xf32> = #moe.dequantize<#moe.source<"o" in "m" : tensor<64x64xi8>>
  by #moe.source<"os" in "m" : tensor<64x1xf32>> group = 64>
// CHECK: @layers.0.router : tensor<4x64xbf16> = #moe.source
moe.weight @layers.0.router : tensor<4x64xbf16> = #moe.source<"r" in "m" : tensor<4x64xbf16>>
// ALL: @layers.0.ffn.gate : tensor<32x64xf32> = #moe.quantize
// SCOPES: @layers.0.ffn.gate : tensor<32x64xbf16> = #moe.source
moe.weight @layers.0.ffn.gate : tensor<32x64xbf16> = #moe.source<"fg" in "m" : tensor<32x64xbf16>>
moe.weight @layers.0.ffn.up : tensor<32x64xbf16> = #moe.source<"fu" in "m" : tensor<32x64xbf16>>
moe.weight @layers.0.ffn.down : tensor<64x32xbf16> = #moe.source<"fd" in "m" : tensor<64x32xbf16>>
// SCOPES: @layers.0.shared.gate : tensor<32x64xf32> = #moe.quantize<#moe.source<"sg" {{.*}} to "mxfp4">
// EXPERTS: @layers.0.shared.gate : tensor<32x64xbf16> = #moe.source
moe.weight @layers.0.shared.gate : tensor<32x64xbf16> = #moe.source<"sg" in "m" : tensor<32x64xbf16>>
moe.weight @layers.0.shared.up : tensor<32x64xbf16> = #moe.source<"su" in "m" : tensor<32x64xbf16>>
moe.weight @layers.0.shared.down : tensor<64x32xbf16> = #moe.source<"sd" in "m" : tensor<64x32xbf16>>
// ALL: @layers.0.experts.gate : tensor<4x32x64xf32> = #moe.quantize<#moe.stack<{{.*}} to "f8e4m3:block128x128">
// SCOPES: @layers.0.experts.gate : tensor<4x32x64xf32> = #moe.quantize<#moe.stack<{{.*}} to "mxfp4">
// EXPERTS: @layers.0.experts.gate : tensor<4x32x64xf32> = #moe.quantize<#moe.stack<{{.*}} to "nvfp4">
moe.weight @layers.0.experts.gate : tensor<4x32x64xbf16> = #moe.stack<"g{}" x 4 in ["m"] : tensor<4x32x64xbf16>>
// Rows of up are scaled by factors that columns of down undo, where nothing stands between them.
// SCOPES: @layers.0.experts.up : tensor<4x32x64xf32> = #moe.quantize<#moe.dequantize<#moe.convert<#moe.stack<"u{}" x 4 in ["m"] : tensor<4x32x64xbf16>> to f32> by #moe.quantize<#moe.stack<"u{}" x 4 in ["m"] : tensor<4x32x64xbf16>> to "mxfp4", part = row_scales> group = 64> to "mxfp4">
// EXPERTS: @layers.0.experts.up : tensor<4x32x64xf32> = #moe.quantize<#moe.stack
moe.weight @layers.0.experts.up : tensor<4x32x64xbf16> = #moe.stack<"u{}" x 4 in ["m"] : tensor<4x32x64xbf16>>
// SCOPES: @layers.0.experts.down : tensor<4x64x32xf32> = #moe.quantize<#moe.dequantize<#moe.convert<{{.*}}> to f32> by #moe.repeat<#moe.reshape<#moe.reciprocal<#moe.quantize<#moe.stack<"u{}" x 4 in ["m"] : tensor<4x32x64xbf16>> to "mxfp4", part = row_scales>> to tensor<4x1x32xf32>>, axis = 1, times = 64, size = 64> group = 1> to "mxfp4">
moe.weight @layers.0.experts.down : tensor<4x64x32xbf16> = #moe.stack<"d{}" x 4 in ["m"] : tensor<4x64x32xbf16>>
// CHECK: @head : tensor<64x64xbf16> = #moe.source
moe.weight @head : tensor<64x64xbf16> = #moe.source<"head" in "m" : tensor<64x64xbf16>>

func.func @step(%ids: tensor<?xi32>, %b: !moe.batch) -> (tensor<?x64xf32>, tensor<?xi32>) {
  %x = moe.embedding %ids table @embed : tensor<?xi32> -> tensor<?x64xf32>
  %q = moe.linear %x weight @layers.0.q : tensor<?x64xf32> -> tensor<?x64xf32>
  %o = moe.linear %q weight @layers.0.o : tensor<?x64xf32> -> tensor<?x64xf32>
  %f = moe.ffn %o gate @layers.0.ffn.gate up @layers.0.ffn.up down @layers.0.ffn.down activation <silu> : tensor<?x64xf32> -> tensor<?x64xf32>
  %s = moe.ffn %f gate @layers.0.shared.gate up @layers.0.shared.up down @layers.0.shared.down activation <silu> : tensor<?x64xf32> -> tensor<?x64xf32>
  %r = moe.linear %s weight @layers.0.router : tensor<?x64xf32> -> tensor<?x4xf32>
  %e, %w = moe.route %r routing <softmax, top_k = 2> : tensor<?x4xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
  %m = moe.experts %s, %e, %w gate @layers.0.experts.gate up @layers.0.experts.up down @layers.0.experts.down activation <silu>
    : tensor<?x64xf32>, tensor<?x2xi32>, tensor<?x2xf32> -> tensor<?x64xf32>
  %c = moe.select_rows %m of %b : tensor<?x64xf32> -> tensor<?x64xf32>
  %l = moe.linear %c weight @head : tensor<?x64xf32> -> tensor<?x64xf32>
  %t = moe.sample %l by %b : tensor<?x64xf32> -> tensor<?xi32>
  return %l, %t : tensor<?x64xf32>, tensor<?xi32>
}
}
