//===- MoeAttrs.td - Attributes of `moe` -------------------*- tablegen -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_DIALECTS_MOE_MOEATTRS_TD
#define SLUICE_DIALECTS_MOE_MOEATTRS_TD

include "dialects/Moe/MoeDialect.td"
include "mlir/IR/BuiltinAttributeInterfaces.td"

class Moe_Attr<string name, string attrMnemonic, list<Trait> traits = []>
    : AttrDef<Moe_Dialect, name, traits> {
  let mnemonic = attrMnemonic;
}

//===----------------------------------------------------------------------===//
// Weight expressions
//===----------------------------------------------------------------------===//

// A weight is a tree: leaves name checkpoint tensors (or hold small computed constants as builtin
// dense attributes), inner nodes rearrange. The compiler evaluates it row by row while it writes the
// artifact, so nothing is loaded before. The interface is what every node can say about itself.
def Moe_WeightExprInterface : AttrInterface<"WeightExprInterface", [TypedAttrInterface]> {
  let cppNamespace = "::sluice::moe";
  let description = [{
    A node of a weight expression. Its type (from TypedAttrInterface) is the static
    ranked tensor type of the rearranged weight.
  }];
  let methods = [
    InterfaceMethod<"The node's operands, in order.",
                    "::llvm::SmallVector<::mlir::TypedAttr>", "getOperandExprs", (ins)>,
  ];
}

// Inner nodes compute their type from their operands; leaves carry it as the parameter `type`, whose
// accessor is the interface's getType().
class Moe_WeightLeaf<string name, string mnemonic>
    : Moe_Attr<name, mnemonic, [TypedAttrInterface,
                                DeclareAttrInterfaceMethods<Moe_WeightExprInterface>]> {
  let genVerifyDecl = 1;
}
class Moe_WeightNode<string name, string mnemonic>
    : Moe_Attr<name, mnemonic, [DeclareAttrInterfaceMethods<TypedAttrInterface>,
                                DeclareAttrInterfaceMethods<Moe_WeightExprInterface>]> {
  let genVerifyDecl = 1;
}

def Moe_SourceAttr : Moe_WeightLeaf<"Source", "source"> {
  let summary = "one checkpoint tensor";
  let description = [{
    ```mlir
    #moe.source<"model.norm.weight" in "model.safetensors" : tensor<256xbf16>>
    ```
    The file is relative to the checkpoint folder; an empty file name stands for
    synthetic weights, generated from the key.
    Constraints: (C1) the key is not empty; (C2) the type is static.
  }];
  let parameters = (ins "::mlir::StringAttr":$key, "::mlir::StringAttr":$file,
                        "::mlir::RankedTensorType":$type);
  let assemblyFormat = "`<` custom<PlainString>($key) `in` custom<PlainString>($file) `:` custom<WeightType>($type) `>`";
}

def Moe_StackAttr : Moe_WeightLeaf<"Stack", "stack"> {
  let summary = "checkpoint tensors of equal shape stacked along a new first axis";
  let description = [{
    ```mlir
    #moe.stack<"model.layers.0.mlp.experts.{}.up_proj.weight" x 128
               in ["model-00001-of-00016.safetensors"] : tensor<128x768x2048xbf16>>
    ```
    `{}` stands for the index. `files` lists every file that holds some of the
    tensors; which tensor lies in which is looked up when the weight is written.
    Constraints: (C1) the pattern has one {}; (C2) count is positive and the first dimension
    of the type; (C3) files is a non-empty list of strings; (C4) the type is static.
  }];
  let parameters = (ins "::mlir::StringAttr":$pattern, "int64_t":$count,
                        "::mlir::ArrayAttr":$files, "::mlir::RankedTensorType":$type);
  let assemblyFormat = "`<` custom<PlainString>($pattern) `x` $count `in` $files `:` custom<WeightType>($type) `>`";
}

def Moe_SliceAttr : Moe_WeightNode<"Slice", "slice"> {
  let summary = "every `stride`-th of `size` rows of an axis";
  let description = [{
    ```mlir
    #moe.slice<#moe.source<...>, axis = 0, begin = 1, size = 2880, stride = 2>
    ```
    Constraints: (C1) the operand is a weight expression; (C2) axis is one of its axes;
    (C3) begin >= 0, size and stride > 0; (C4) the last row begin + (size - 1) * stride exists.
  }];
  let parameters = (ins "::mlir::TypedAttr":$operand, "int64_t":$axis, "int64_t":$begin,
                        "int64_t":$size, DefaultValuedParameter<"int64_t", "1">:$stride);
  let assemblyFormat = "`<` custom<WeightExpr>($operand) `,` `axis` `=` $axis `,` `begin` `=` $begin `,` `size` `=` $size (`,` `stride` `=` $stride^)? `>`";
}

def Moe_TakeAttr : Moe_WeightNode<"Take", "take"> {
  let summary = "chosen rows of the first axis, in the given order; -1 gives a row of zeros";
  let description = [{
    Places experts: row i of the result is row `indices[i]` of the operand.
    ```mlir
    #moe.take<#moe.stack<...>, [4, 0, 7, -1]>
    ```
    Constraints: (C1) the operand is a weight expression; (C2) it has an axis and there is
    an index; (C3) every index is -1 or a row of the operand.
  }];
  let parameters = (ins "::mlir::TypedAttr":$operand, "::mlir::DenseI64ArrayAttr":$indices);
  let assemblyFormat = "`<` custom<WeightExpr>($operand) `,` $indices `>`";
}

def Moe_ConcatAttr : Moe_WeightNode<"Concat", "concat"> {
  let summary = "operands one after the other along an axis";
  let description = [{
    ```mlir
    #moe.concat<axis = 0, [#moe.source<...>, #moe.source<...>]>
    ```
    Constraints: (C1) the operands are weight expressions; (C2) there is at least one;
    (C3) axis is one of their axes; (C4) element types and all other dimensions are equal.
  }];
  let parameters = (ins "int64_t":$axis, ArrayRefParameter<"::mlir::TypedAttr">:$operands);
  let assemblyFormat = "`<` `axis` `=` $axis `,` `[` custom<WeightExprs>($operands) `]` `>`";
}

def Moe_TransposeAttr : Moe_WeightNode<"Transpose", "transpose"> {
  let summary = "axes permuted: result axis i is operand axis `permutation[i]`";
  let description = [{
    ```mlir
    #moe.transpose<#moe.source<...>, [1, 0]>
    ```
    Constraints: (C1) the operand is a weight expression; (C2) permutation is one of its axes.
  }];
  let parameters = (ins "::mlir::TypedAttr":$operand, "::mlir::DenseI64ArrayAttr":$permutation);
  let assemblyFormat = "`<` custom<WeightExpr>($operand) `,` $permutation `>`";
}

def Moe_ReshapeAttr : Moe_WeightNode<"Reshape", "reshape"> {
  let summary = "the same elements in row-major order under another shape";
  let description = [{
    ```mlir
    #moe.reshape<#moe.source<...> to tensor<8x2x32xbf16>>
    ```
    Constraints: (C1) the operand is a weight expression; (C2) the shape is static; (C3) the
    numbers of elements and (C4) the element types are equal.
  }];
  let parameters = (ins "::mlir::TypedAttr":$operand, "::mlir::RankedTensorType":$shape);
  let assemblyFormat = "`<` custom<WeightExpr>($operand) `to` custom<WeightType>($shape) `>`";
}

def Moe_ConvertAttr : Moe_WeightNode<"Convert", "convert"> {
  let summary = "elements converted to another type, round to nearest even";
  let description = [{
    ```mlir
    #moe.convert<#moe.source<...> to f32>
    ```
    Constraints: (C1) the operand is a weight expression; (C2) the element type is an integer
    or a floating-point type.
  }];
  let parameters = (ins "::mlir::TypedAttr":$operand, "::mlir::Type":$elementType);
  let assemblyFormat = "`<` custom<WeightExpr>($operand) `to` $elementType `>`";
}

def Moe_DequantizeAttr : Moe_WeightNode<"Dequantize", "dequantize"> {
  let summary = "numbers of quantised weights: (code - zero - origin) * scale, as f32";
  let description = [{
    One scale, and one zero point where there are any, for each `group` neighbours of a row of the
    codes' last axis. A scale per row has a group as long as the row. Codes of type f32 (numbers
    that another dequantize gave) are scaled once more: formats with two levels of scales.
    Codes of i4 and ui8 are not negative, those of i8 are signed.
    ```mlir
    #moe.dequantize<#moe.source<"w" in "m.safetensors" : tensor<64x256xf8E4M3FN>>
      by #moe.source<"w_scale" in "m.safetensors" : tensor<64x2xf32>> group = 128>
    #moe.dequantize<#moe.unpack<...> by #moe.source<...> minus #moe.unpack<...> group = 32>
    ```
    Constraints: (C1) operands are weight expressions; (C2) the codes are of i8, ui8, i4, f8E4M3FN,
    f4E2M1FN or f32 and have two axes at least; (C3) group is positive and not longer than a row;
    (C4) scales are floating-point numbers, of the codes' shape with ceil(columns / group) columns;
    (C5) only integer codes have zeros, i4 or ui8 of the scales' shape, or an origin.
  }];
  let parameters = (ins "::mlir::TypedAttr":$codes, "::mlir::TypedAttr":$scales,
                        OptionalParameter<"::mlir::TypedAttr">:$zeros, "int64_t":$group,
                        DefaultValuedParameter<"int64_t", "0">:$origin);
  let assemblyFormat = "`<` custom<WeightExpr>($codes) `by` custom<WeightExpr>($scales) (`minus` custom<WeightExpr>($zeros)^)? `group` `=` $group (`,` `origin` `=` $origin^)? `>`";
}

def Moe_RepeatAttr : Moe_WeightNode<"Repeat", "repeat"> {
  let summary = "every row of an axis `times` times in succession, cut to `size` rows";
  let description = [{
    Spreads a scale that several rows share.
    ```mlir
    #moe.repeat<#moe.source<...>, axis = 0, times = 128, size = 576>
    ```
    Constraints: (C1) the operand is a weight expression; (C2) axis is one of its axes;
    (C3) times > 0; (C4) the rows of the axis are ceil(size / times).
  }];
  let parameters = (ins "::mlir::TypedAttr":$operand, "int64_t":$axis, "int64_t":$times,
                        "int64_t":$size);
  let assemblyFormat = "`<` custom<WeightExpr>($operand) `,` `axis` `=` $axis `,` `times` `=` $times `,` `size` `=` $size `>`";
}

def Moe_UnpackAttr : Moe_WeightNode<"Unpack", "unpack"> {
  let summary = "words taken apart into narrower elements along the last axis, cut to `size` columns";
  let description = [{
    Element j of a word lies `order[j]` elements above its lowest bits; without an order, j. A word
    of one element changes its type and keeps its bits.
    ```mlir
    #moe.unpack<#moe.source<"w" in "m.safetensors" : tensor<64x128xui8>> to f4E2M1FN, size = 256>
    #moe.unpack<#moe.source<"q" in "m.safetensors" : tensor<256x8xi32>> to i4, size = 64,
                order = [0, 4, 1, 5, 2, 6, 3, 7]>
    ```
    Constraints: (C1) the operand is a weight expression with an axis; (C2) words are integers of 8
    or 32 bits, elements integers or floating-point numbers of 4 or 8 bits; (C3) the words of a row are
    ceil(size / elements of a word); (C4) order is a permutation of a word's elements.
  }];
  let parameters = (ins "::mlir::TypedAttr":$operand, "::mlir::Type":$elementType, "int64_t":$size,
                        OptionalParameter<"::mlir::DenseI64ArrayAttr">:$order);
  let assemblyFormat = "`<` custom<WeightExpr>($operand) `to` $elementType `,` `size` `=` $size (`,` `order` `=` $order^)? `>`";
}

def Moe_ReciprocalAttr : Moe_WeightNode<"Reciprocal", "reciprocal"> {
  let summary = "1 / x of every element";
  let description = [{
    For checkpoints that store what scales are divided by.
    ```mlir
    #moe.reciprocal<#moe.source<"w_global_scale" in "m.safetensors" : tensor<1xf32>>>
    ```
    Constraints: (C1) the operand is a weight expression; (C2) its elements are f32.
  }];
  let parameters = (ins "::mlir::TypedAttr":$operand);
  let assemblyFormat = "`<` custom<WeightExpr>($operand) `>`";
}

def Moe_QuantizeAttr : Moe_WeightNode<"Quantize", "quantize"> {
  let summary = "numbers rounded to a quantised format, as f32, or what they are rounded to";
  let description = [{
    Scales are chosen while the weight is written (runtime/quant/Quantizer.h), so the expression
    says only to which format of runtime/quant/WeightFormat.h. Passes rearrange the numbers as they
    do those of any weight; `part` asks for the codes, the scales (and zero points) of blocks of
    rows and columns, or the factors of rows that nvfp4 has, for the artifact writer. A tensor here
    is one matrix of the last two axes: experts have scales of their own. Row scales of mxfp4 are
    no part of its numbers: they are the factors in [1, 2) that rows are best multiplied with before
    they are rounded, for passes that can undo them elsewhere.
    ```mlir
    #moe.quantize<#moe.source<...> to "f8e4m3:block128x128">
    #moe.quantize<#moe.stack<...> to "mxfp4", part = codes>
    ```
    Constraints: (C1) the operand is a weight expression; (C2) it has at least two axes and elements
    of type f32, bf16 or f16; (C3) the format is a quantised one; (C4) a row is whole groups of
    columns (tiles may end early); (C5) the format has the part.
  }];
  let parameters = (ins "::mlir::TypedAttr":$operand, "::mlir::StringAttr":$format,
                        DefaultValuedParameter<"::sluice::moe::QuantizePart",
                                               "::sluice::moe::QuantizePart::Numbers">:$part);
  let assemblyFormat = "`<` custom<WeightExpr>($operand) `to` custom<PlainString>($format) (`,` `part` `=` $part^)? `>`";
  let extraClassDeclaration = [{
    /// Rows and columns that share a scale; those of the whole matrix for one per row or tensor.
    int64_t getBlockRows() const;
    int64_t getBlockColumns() const;
    /// The same quantisation, another part of it.
    ::mlir::TypedAttr withPart(::sluice::moe::QuantizePart part) const;
  }];
}

//===----------------------------------------------------------------------===//
// Parameter groups
//===----------------------------------------------------------------------===//

// A finite double, unique by its bits (MLIR does not hash floating-point parameters).
class Moe_Double<string default = ""> : AttrOrTypeParameter<"::sluice::moe::Real", ""> {
  let cppAccessorType = "double";
  let defaultValue = default;
}

def Moe_RopeAttr : Moe_Attr<"Rope", "rope"> {
  let summary = "rotary position embedding";
  let description = [{
    Rotates `dim` entries of every head, starting at `offset`, by angles
    position * frequency. `interleaved` pairs entries (2i, 2i+1), otherwise
    (i, i + dim/2). `scaling` is absent for plain frequencies base^(-2i/dim), or a
    dictionary {rope_type = "linear" | "dynamic" | "yarn" | "llama3" | "longrope", ...}
    with the checkpoint's own keys.
    ```mlir
    #moe.rope<dim = 64, base = 1.0e+06>
    #moe.rope<dim = 64, offset = 128, interleaved, base = 1.0e+04, scaling = {rope_type = "yarn", factor = 4.0e+01, ...}>
    ```
    Constraints: (C1) dim is positive and even; (C2) offset >= 0; (C3) base is a positive f64;
    (C4) scaling has one of the rope types above.
  }];
  let parameters = (ins "int64_t":$dim, DefaultValuedParameter<"int64_t", "0">:$offset,
                        DefaultValuedParameter<"bool", "false">:$interleaved,
                        "::mlir::FloatAttr":$base,
                        OptionalParameter<"::mlir::DictionaryAttr">:$scaling);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
}

def Moe_RoutingAttr : Moe_Attr<"Routing", "routing"> {
  let summary = "how a token's router logits choose experts and their weights";
  let description = [{
    Only what differs from softmax over all experts, top-k, no renormalisation is
    printed.
    ```mlir
    #moe.routing<softmax, top_k = 2, renormalize>
    #moe.routing<sigmoid, top_k = 8, renormalize, epsilon = 1.0e-20, scale = 2.5,
                 groups = 8, topk_group = 4, group_score = top2_sum>
    #moe.routing<softmax after top_k, top_k = 4>
    ```
    Constraints: (C1) top_k > 0; (C2) 1 <= topk_group <= groups; (C3) more than one group
    has a group_score, one group none; (C4) epsilon and jitter are >= 0 and finite; (C5)
    scale is finite and not 0.
  }];
  let parameters = (ins "::sluice::moe::ScoreFunction":$score, "int64_t":$topK,
      "bool":$scoreFirst, "bool":$renormalize, Moe_Double<>:$epsilon, Moe_Double<>:$scale,
      "int64_t":$groups, "int64_t":$topkGroup, "::sluice::moe::GroupScore":$groupScore,
      "bool":$sparseMixer, Moe_Double<>:$jitter);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
}

def Moe_ActivationAttr : Moe_Attr<"Activation", "activation"> {
  let summary = "gated activation of a feed-forward part";
  let description = [{
    `act(gate) * up`; `swiglu_oai` clamps both by `limit` and computes
    (up + 1) * gate * sigmoid(alpha * gate).
    ```mlir
    #moe.activation<silu>
    #moe.activation<swiglu_oai, alpha = 1.702, limit = 7.0>
    ```
    Constraints: (C1) alpha > 0; (C2) limit >= 0.
  }];
  let parameters = (ins "::sluice::moe::ActivationKind":$kind,
      Moe_Double<"1.0">:$alpha,
      Moe_Double<"0.0">:$limit);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
}

#endif // SLUICE_DIALECTS_MOE_MOEATTRS_TD
