// RUN: split-file %s %t
// RUN: not sluice-opt --sluice-quantize-weights=rules=fp3 %t/empty.mlir 2>&1 | FileCheck %s --check-prefix=FORMAT
// RUN: not sluice-opt --sluice-quantize-weights=rules=mxfp4:head %t/empty.mlir 2>&1 | FileCheck %s --check-prefix=SCOPE
// RUN: not sluice-opt --sluice-quantize-weights="rules=mxfp4 exclude=[" %t/empty.mlir 2>&1 | FileCheck %s --check-prefix=GLOB
// RUN: not sluice-opt --sluice-quantize-weights="rules=mxfp4 exclude=layers.9.*" %t/empty.mlir 2>&1 | FileCheck %s --check-prefix=NONE
// RUN: not sluice-opt --sluice-quantize-weights="activations=int8" %t/empty.mlir 2>&1 | FileCheck %s --check-prefix=ACTIVATIONS
// RUN: not sluice-opt --sluice-quantize-weights=rules=int4-g32 %t/unfit.mlir 2>&1 | FileCheck %s --check-prefix=UNFIT
// RUN: sluice-opt --sluice-quantize-weights="rules=int4-g32 skip-unfit" %t/unfit.mlir 2>&1 | FileCheck %s --check-prefix=SKIPPED
// RUN: not sluice-opt --sluice-quantize-weights=rules=mxfp4 %t/integers.mlir 2>&1 | FileCheck %s --check-prefix=TYPE

// FORMAT: error: unknown weight format "fp3"; known are keep, bf16, f16, f32, fp8-tensor, fp8-channel, fp8-block, int8-channel, int4-g32, int4-g128, mxfp4, nvfp4
// SCOPE: error: unknown scope "head" of weight format mxfp4; known are all, attention, ffn, experts, shared
// GLOB: error: pattern "[" of weights to exclude: {{.+}}
// NONE: error: pattern "layers.9.*" of weights to exclude matches no weight of a product
// ACTIVATIONS: error: unknown activation format 'int8'; known are f32 and fp8
// UNFIT: error: weight @w cannot be stored as int4-g32: rows of 40 columns are not whole groups of 32; exclude it by name
// SKIPPED: remark: weight @w cannot be stored as int4-g32: rows of 40 columns are not whole groups of 32; it is kept
// SKIPPED: moe.weight @w : tensor<40x40xbf16> = #moe.source
// TYPE: error: weight @w has elements of type 'f64'; only f32, bf16 and f16 can be quantised

//--- empty.mlir
module {
}
//--- unfit.mlir
moe.weight @w : tensor<40x40xbf16> = #moe.source<"w" in "m" : tensor<40x40xbf16>>
func.func @step(%x: tensor<?x40xf32>) -> tensor<?x40xf32> {
  %y = moe.linear %x weight @w : tensor<?x40xf32> -> tensor<?x40xf32>
  %z = moe.linear %y weight @w : tensor<?x40xf32> -> tensor<?x40xf32>
  %n = moe.clamp %z to 1.0 : tensor<?x40xf32>
  return %n : tensor<?x40xf32>
}
//--- integers.mlir
moe.weight @w : tensor<32x32xf64> = #moe.source<"w" in "m" : tensor<32x32xf64>>
func.func @step(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %y = moe.linear %x weight @w : tensor<?x32xf32> -> tensor<?x32xf32>
  %n = moe.clamp %y to 1.0 : tensor<?x32xf32>
  return %n : tensor<?x32xf32>
}
