//===- MoeDialect.td - Dialect, types and enums of `moe` ---*- tablegen -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_DIALECTS_MOE_MOEDIALECT_TD
#define SLUICE_DIALECTS_MOE_MOEDIALECT_TD

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"
include "mlir/IR/OpBase.td"

def Moe_Dialect : Dialect {
  let name = "moe";
  let cppNamespace = "::sluice::moe";
  let summary = "Mixture-of-Experts language models with value semantics";
  let description = [{
    The `moe` dialect states what a Mixture-of-Experts model computes. Values are
    tensors; the first dimension of an activation is the flattened token dimension
    of a ragged batch and is dynamic. Weights are module-level symbols that name
    checkpoint tensors and are never loaded into the IR. Every published family is
    a point of one parameter space (routing rule, activation, attention variant),
    not an operation of its own. See README.md in this folder for the rationale.
  }];
  // Not the default: the type after a typed attribute is checked against the one it derives.
  let useDefaultAttributePrinterParser = 0;
  let useDefaultTypePrinterParser = 1;
  let hasOperationAttrVerify = 1;
  let dependentDialects = ["::mlir::func::FuncDialect"];
  let extraClassDeclaration = [{
    /// Module attribute (dictionary) that says which model this is.
    static constexpr llvm::StringLiteral getModelAttrName() { return "moe.model"; }
    /// Module attribute (dictionary) with the worst case of a step.
    static constexpr llvm::StringLiteral getLimitsAttrName() { return "moe.limits"; }
    /// Module attribute (string) with the name of the target description.
    static constexpr llvm::StringLiteral getTargetAttrName() { return "moe.target"; }
    /// Module attribute (dictionary) with the numbers of ranks that share what; absent: one rank.
    static constexpr llvm::StringLiteral getParallelAttrName() { return "moe.parallel"; }
    /// Module attribute (string) with the last phase whose passes have all run.
    static constexpr llvm::StringLiteral getPhaseAttrName() { return "moe.phase"; }
    /// Module attribute (string): format that activations of products are rounded to,
    /// "f8e4m3:group128", where their weights are f8e4m3; absent = none are.
    static constexpr llvm::StringLiteral getActivationsAttrName() { return "moe.activations"; }
    /// Function attribute (i64): the rank whose program a function is, after partitioning.
    static constexpr llvm::StringLiteral getRankAttrName() { return "moe.rank"; }
    ::mlir::Attribute parseAttribute(::mlir::DialectAsmParser &parser,
                                     ::mlir::Type type) const override;
    void printAttribute(::mlir::Attribute attr,
                        ::mlir::DialectAsmPrinter &printer) const override;
    void registerAttributes();
    void registerTypes();
  }];
}

class Moe_Type<string name, string typeMnemonic> : TypeDef<Moe_Dialect, name> {
  let mnemonic = typeMnemonic;
}

def Moe_BatchType : Moe_Type<"Batch", "batch"> {
  let summary = "description of a step's ragged batch";
  let description = [{
    Positions, sequence boundaries, cache lengths, page table and wanted logits rows
    of one step. Opaque: operations that depend on where a token stands take it.
  }];
}

def Moe_DispatchType : Moe_Type<"Dispatch", "dispatch"> {
  let summary = "expert-major order of (token, choice) pairs";
  let description = [{
    What the fused router hands to the expert operations: per-expert offsets, the
    pairs sorted by expert and the inverse of that order.
  }];
}

class Moe_Enum<string name, string summary, list<I32EnumAttrCase> cases>
    : I32EnumAttr<name, summary, cases> {
  let cppNamespace = "::sluice::moe";
  let genSpecializedAttr = 0;
}
class Moe_EnumAttr<EnumAttrInfo info, string mnemonic>
    : EnumAttr<Moe_Dialect, info, mnemonic> {
  let assemblyFormat = "`<` $value `>`";
}

// The spelling of every case is also the name in plans (runtime/artifact/KernelFamilies.h).
def Moe_NormKind : Moe_Enum<"NormKind", "normalisation", [
  I32EnumAttrCase<"Rms", 0, "rms">, I32EnumAttrCase<"Layer", 1, "layer">,
  I32EnumAttrCase<"L2", 2, "l2">]>;
def Moe_NormKindAttr : Moe_EnumAttr<Moe_NormKind, "norm_kind">;

def Moe_ActivationKind : Moe_Enum<"ActivationKind", "gated activation", [
  I32EnumAttrCase<"Silu", 0, "silu">, I32EnumAttrCase<"Gelu", 1, "gelu">,
  I32EnumAttrCase<"GeluTanh", 2, "gelu_tanh">, I32EnumAttrCase<"Relu", 3, "relu">,
  I32EnumAttrCase<"SwigluOai", 4, "swiglu_oai">]>;

def Moe_ScoreFunction : Moe_Enum<"ScoreFunction", "router score function", [
  I32EnumAttrCase<"Softmax", 0, "softmax">, I32EnumAttrCase<"Sigmoid", 1, "sigmoid">,
  I32EnumAttrCase<"SqrtSoftplus", 2, "sqrt_softplus">]>;

def Moe_GroupScore : Moe_Enum<"GroupScore", "score of a group of experts", [
  I32EnumAttrCase<"None", 0, "none">, I32EnumAttrCase<"Max", 1, "max">,
  I32EnumAttrCase<"Top2Sum", 2, "top2_sum">]>;

def Moe_QuantizePart : Moe_Enum<"QuantizePart", "what is meant of a quantised weight", [
  I32EnumAttrCase<"Numbers", 0, "numbers">, I32EnumAttrCase<"Codes", 1, "codes">,
  I32EnumAttrCase<"Scales", 2, "scales">, I32EnumAttrCase<"Zeros", 3, "zeros">,
  I32EnumAttrCase<"RowScales", 4, "row_scales">]>;

def Moe_QkNorm : Moe_Enum<"QkNorm", "normalisation of queries and keys", [
  I32EnumAttrCase<"None", 0, "none">, I32EnumAttrCase<"PerHead", 1, "per_head">,
  I32EnumAttrCase<"Whole", 2, "whole">, I32EnumAttrCase<"L2AfterRope", 3, "l2_after_rope">]>;
def Moe_QkNormAttr : Moe_EnumAttr<Moe_QkNorm, "qk_norm">;

#endif // SLUICE_DIALECTS_MOE_MOEDIALECT_TD
