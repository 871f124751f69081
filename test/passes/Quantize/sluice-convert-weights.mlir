// Weights of products and the embedding table are converted; norm weights keep their type.
//
// RUN: sluice-opt --sluice-convert-weights=format=f16 %s | FileCheck %s --check-prefixes=CHECK,F16
// RUN: sluice-opt --sluice-convert-weights=format=f32 %s | FileCheck %s --check-prefix=F32
// RUN: sluice-opt --sluice-convert-weights=format=keep %s | FileCheck %s --check-prefixes=CHECK,KEEP

// F16: moe.weight @embed : tensor<64x32xf16> = #moe.convert<#moe.source<"embed" in "m" : tensor<64x32xbf16>> to f16>
// KEEP: moe.weight @embed : tensor<64x32xbf16> = #moe.source
moe.weight @embed : tensor<64x32xbf16> = #moe.source<"embed" in "m" : tensor<64x32xbf16>>
// CHECK: moe.weight @norm : tensor<32xbf16> = #moe.source
moe.weight @norm : tensor<32xbf16> = #moe.source<"norm" in "m" : tensor<32xbf16>>
// CHECK: moe.weight @already : tensor<32x32xf16> = #moe.source
moe.weight @already : tensor<32x32xf16> = #moe.source<"w" in "m" : tensor<32x32xf16>>
// Numbers of codes are f32 without being stored so: asking for a format makes it one.
// F16: moe.weight @codes : tensor<32x32xf16> = #moe.convert<#moe.dequantize<
// F32: moe.weight @codes : tensor<32x32xf32> = #moe.convert<#moe.dequantize<
// KEEP: moe.weight @codes : tensor<32x32xf32> = #moe.dequantize<
moe.weight @codes : tensor<32x32xf32> = #moe.dequantize<#moe.source<"q" in "m" : tensor<32x32xi8>>
  by #moe.source<"s" in "m" : tensor<32x1xf32>> group = 32>

func.func @step(%ids: tensor<?xi32>) -> tensor<?x32xf32> {
  %x = moe.embedding %ids table @embed : tensor<?xi32> -> tensor<?x32xf32>
  %n = moe.norm rms %x weight @norm eps 1.0e-05 : tensor<?x32xf32>
  %y = moe.linear %n weight @already : tensor<?x32xf32> -> tensor<?x32xf32>
  %z = moe.linear %y weight @codes : tensor<?x32xf32> -> tensor<?x32xf32>
  return %z : tensor<?x32xf32>
}
