// Weight expressions: every node, the type it derives, and the layouts of real checkpoints.
//
// RUN: sluice-opt %s | sluice-opt | FileCheck %s
// RUN: sluice-opt --mlir-print-op-generic %s | sluice-opt | FileCheck %s
// RUN: sluice-opt --mlir-print-op-generic %s | FileCheck %s --check-prefix=GENERIC

// The derived type follows the expression only in the generic form.
// GENERIC: value = #moe.slice<#moe.source<"gate_up" in "m" : tensor<64x16xbf16>>, axis = 0, begin = 1, size = 32, stride = 2> : tensor<32x16xbf16>

// gpt-oss: gate and up rows alternate.
// CHECK: @gate : tensor<32x16xbf16> = #moe.slice<#moe.source<"gate_up" in "m" : tensor<64x16xbf16>>, axis = 0, begin = 0, size = 32, stride = 2>{{$}}
moe.weight @gate : tensor<32x16xbf16>
  = #moe.slice<#moe.source<"gate_up" in "m" : tensor<64x16xbf16>>, axis = 0, begin = 0, size = 32, stride = 2>
// CHECK: @up : tensor<32x16xbf16> = #moe.slice<#moe.source<"gate_up" in "m" : tensor<64x16xbf16>>, axis = 0, begin = 1, size = 32, stride = 2>{{$}}
moe.weight @up : tensor<32x16xbf16>
  = #moe.slice<#moe.source<"gate_up" in "m" : tensor<64x16xbf16>>, axis = 0, begin = 1, size = 32, stride = 2>
// A stride of one is not printed, and a derived type that is spelled out is checked and dropped.
// CHECK: @half : tensor<32x16xbf16> = #moe.slice<#moe.source<"gate_up" in "m" : tensor<64x16xbf16>>, axis = 0, begin = 32, size = 32>{{$}}
moe.weight @half : tensor<32x16xbf16>
  = #moe.slice<#moe.source<"gate_up" in "m" : tensor<64x16xbf16>>, axis = 0, begin = 32, size = 32, stride = 1> : tensor<32x16xbf16>

// Mixtral: one tensor per expert, spread over shards.
// CHECK: @experts : tensor<8x96x16xbf16> = #moe.stack<"layers.0.experts.{}.w1.weight" x 8 in ["a.safetensors", "b.safetensors"] : tensor<8x96x16xbf16>>{{$}}
moe.weight @experts : tensor<8x96x16xbf16>
  = #moe.stack<"layers.0.experts.{}.w1.weight" x 8 in ["a.safetensors", "b.safetensors"] : tensor<8x96x16xbf16>>
// Placed experts: a replica of expert 7 and an empty slot.
// CHECK: @placed : tensor<4x96x16xbf16> = #moe.take<#moe.stack<"{}" x 8 in [""] : tensor<8x96x16xbf16>>, [4, 7, 7, -1]>{{$}}
moe.weight @placed : tensor<4x96x16xbf16>
  = #moe.take<#moe.stack<"{}" x 8 in [""] : tensor<8x96x16xbf16>>, [4, 7, 7, -1]>

// Llama 4 and DBRX: transposed and flattened.
// CHECK: @transposed : tensor<8x32x16xbf16> = #moe.transpose<#moe.source<"t" in "" : tensor<8x16x32xbf16>>, [0, 2, 1]>{{$}}
moe.weight @transposed : tensor<8x32x16xbf16>
  = #moe.transpose<#moe.source<"t" in "" : tensor<8x16x32xbf16>>, [0, 2, 1]>
// CHECK: @unflattened : tensor<8x4x16xbf16> = #moe.reshape<#moe.source<"f" in "" : tensor<32x16xbf16>> to tensor<8x4x16xbf16>>{{$}}
moe.weight @unflattened : tensor<8x4x16xbf16>
  = #moe.reshape<#moe.source<"f" in "" : tensor<32x16xbf16>> to tensor<8x4x16xbf16>>

// Nested: q, k and v in one, in another element type, with a constant part.
// CHECK: @merged : tensor<10x16xf32> = #moe.convert<#moe.concat<axis = 0, [#moe.source<"q" in "" : tensor<4x16xbf16>>, #moe.slice<#moe.source<"k" in "" : tensor<8x16xbf16>>, axis = 0, begin = 2, size = 4>, dense<0.000000e+00> : tensor<2x16xbf16>]> to f32>{{$}}
moe.weight @merged : tensor<10x16xf32>
  = #moe.convert<#moe.concat<axis = 0, [#moe.source<"q" in "" : tensor<4x16xbf16>>,
                                        #moe.slice<#moe.source<"k" in "" : tensor<8x16xbf16>>, axis = 0, begin = 2, size = 4>,
                                        dense<0.0> : tensor<2x16xbf16>]> to f32>
// CHECK: @wide : tensor<4x12xbf16> = #moe.concat<axis = 1, [#moe.source<"a" in "" : tensor<4x8xbf16>>, #moe.source<"b" in "" : tensor<4x4xbf16>>]>{{$}}
moe.weight @wide : tensor<4x12xbf16>
  = #moe.concat<axis = 1, [#moe.source<"a" in "" : tensor<4x8xbf16>>, #moe.source<"b" in "" : tensor<4x4xbf16>>]>

// Constants and scalars.
// CHECK: @ones : tensor<16xf32> = dense<1.000000e+00> : tensor<16xf32>{{$}}
moe.weight @ones : tensor<16xf32> = dense<1.0> : tensor<16xf32>
// CHECK: @scales : tensor<8xf32> = #moe.stack<"e.{}.scale" x 8 in [""] : tensor<8xf32>>{{$}}
moe.weight @scales : tensor<8xf32> = #moe.stack<"e.{}.scale" x 8 in [""] : tensor<8xf32>>
// CHECK: @"odd name" : tensor<1xf32> = #moe.source<"with \22quotes\22 and \\" in "dir/file" : tensor<1xf32>>{{$}}
moe.weight @"odd name" : tensor<1xf32> = #moe.source<"with \"quotes\" and \\" in "dir/file" : tensor<1xf32>>

// Quantised weights: blocks of 128 x 128 with a partial last block of rows, two levels of scales, words in AWQ's order.
// CHECK: @blocks : tensor<192x256xf32> = #moe.dequantize<#moe.source<"w" in "" : tensor<192x256xf8E4M3FN>> by #moe.repeat<#moe.source<"s" in "" : tensor<2x2xf32>>, axis = 0, times = 128, size = 192> group = 128>{{$}}
moe.weight @blocks : tensor<192x256xf32>
  = #moe.dequantize<#moe.source<"w" in "" : tensor<192x256xf8E4M3FN>> by
      #moe.repeat<#moe.source<"s" in "" : tensor<2x2xf32>>, axis = 0, times = 128, size = 192> group = 128>
// CHECK: @twice : tensor<8x64xf32> = #moe.dequantize<#moe.dequantize<#moe.unpack<#moe.source<"w" in "" : tensor<8x32xui8>> to f4E2M1FN, size = 64> by #moe.source<"s" in "" : tensor<8x4xf8E4M3FN>> group = 16> by #moe.reciprocal<#moe.repeat<#moe.source<"g" in "" : tensor<1x1xf32>>, axis = 0, times = 8, size = 8>> group = 64>{{$}}
moe.weight @twice : tensor<8x64xf32>
  = #moe.dequantize<#moe.dequantize<
      #moe.unpack<#moe.source<"w" in "" : tensor<8x32xui8>> to f4E2M1FN, size = 64>
      by #moe.source<"s" in "" : tensor<8x4xf8E4M3FN>> group = 16>
      by #moe.reciprocal<#moe.repeat<#moe.source<"g" in "" : tensor<1x1xf32>>, axis = 0, times = 8, size = 8>> group = 64>
// CHECK: @awq : tensor<16x64xf32> = #moe.dequantize<#moe.transpose<#moe.unpack<#moe.source<"q" in "" : tensor<64x2xi32>> to i4, size = 16, order = [0, 4, 1, 5, 2, 6, 3, 7]>, [1, 0]> by #moe.transpose<#moe.source<"s" in "" : tensor<2x16xf16>>, [1, 0]> minus #moe.transpose<#moe.unpack<#moe.source<"z" in "" : tensor<2x2xi32>> to i4, size = 16, order = [0, 4, 1, 5, 2, 6, 3, 7]>, [1, 0]> group = 32>{{$}}
moe.weight @awq : tensor<16x64xf32>
  = #moe.dequantize<
      #moe.transpose<#moe.unpack<#moe.source<"q" in "" : tensor<64x2xi32>> to i4, size = 16, order = [0, 4, 1, 5, 2, 6, 3, 7]>, [1, 0]>
      by #moe.transpose<#moe.source<"s" in "" : tensor<2x16xf16>>, [1, 0]>
      minus #moe.transpose<#moe.unpack<#moe.source<"z" in "" : tensor<2x2xi32>> to i4, size = 16, order = [0, 4, 1, 5, 2, 6, 3, 7]>, [1, 0]>
      group = 32>
// A word of one element changes its type; codes that are never negative have an origin.
// CHECK: @bytes : tensor<4x32xf32> = #moe.dequantize<#moe.unpack<#moe.source<"w" in "" : tensor<4x4xi32>> to i4, size = 32> by #moe.unpack<#moe.source<"e" in "" : tensor<4x1xui8>> to f8E8M0FNU, size = 1> group = 32, origin = 8>{{$}}
moe.weight @bytes : tensor<4x32xf32>
  = #moe.dequantize<#moe.unpack<#moe.source<"w" in "" : tensor<4x4xi32>> to i4, size = 32>
      by #moe.unpack<#moe.source<"e" in "" : tensor<4x1xui8>> to f8E8M0FNU, size = 1> group = 32, origin = 8>

// What the compiler quantises: numbers, and the parts that the artifact writer asks for. A last tile ends early.
// CHECK: @rounded : tensor<192x256xf32> = #moe.quantize<#moe.source<"w" in "" : tensor<192x256xbf16>> to "f8e4m3:block128x128">{{$}}
moe.weight @rounded : tensor<192x256xf32> = #moe.quantize<#moe.source<"w" in "" : tensor<192x256xbf16>> to "f8e4m3:block128x128">
// CHECK: @tiles : tensor<2x2xf32> = #moe.quantize<{{.*}} to "f8e4m3:block128x128", part = scales>{{$}}
moe.weight @tiles : tensor<2x2xf32>
  = #moe.quantize<#moe.source<"w" in "" : tensor<192x256xbf16>> to "f8e4m3:block128x128", part = scales>
// CHECK: @whole : tensor<3x1x1xf32> =
moe.weight @whole : tensor<3x1x1xf32>
  = #moe.quantize<#moe.source<"w" in "" : tensor<3x64x96xf32>> to "f8e4m3:tensor", part = scales>
// CHECK: @nibbles : tensor<3x64x96xi4> = {{.*}}, part = codes>
moe.weight @nibbles : tensor<3x64x96xi4>
  = #moe.quantize<#moe.source<"w" in "" : tensor<3x64x96xf16>> to "i4:group32", part = codes>
// CHECK: @origins : tensor<3x64x3xi4> = {{.*}}, part = zeros>
moe.weight @origins : tensor<3x64x3xi4>
  = #moe.quantize<#moe.source<"w" in "" : tensor<3x64x96xf16>> to "i4:group32", part = zeros>
// CHECK: @powers : tensor<64x3xf8E8M0FNU> =
moe.weight @powers : tensor<64x3xf8E8M0FNU>
  = #moe.quantize<#moe.source<"w" in "" : tensor<64x96xf32>> to "mxfp4", part = scales>
// CHECK: @factors : tensor<64x1xf32> = {{.*}}, part = row_scales>
moe.weight @factors : tensor<64x1xf32>
  = #moe.quantize<#moe.source<"w" in "" : tensor<64x96xf32>> to "nvfp4", part = row_scales>
