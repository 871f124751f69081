//===- PlanDialect.td - Dialect, types and attributes of `plan` -*- tablegen -*-//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_DIALECTS_PLAN_PLANDIALECT_TD
#define SLUICE_DIALECTS_PLAN_PLANDIALECT_TD

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"
include "mlir/IR/OpBase.td"

def Plan_Dialect : Dialect {
  let name = "plan";
  let cppNamespace = "::sluice::plan";
  let summary = "Scheduled programs of kernel launches over planned memory";
  let description = [{
    The `plan` dialect states what a rank executes for each token-count bucket. It has
    two phases: in `plan.async.*` buffers are SSA values with a size and no place; in
    `plan.cmd.*` every argument is a byte range of a slab, and operations map
    one-to-one to the records of the artifact's plan. See README.md in this folder for
    the rationale.
  }];
  let useDefaultAttributePrinterParser = 1;
  let useDefaultTypePrinterParser = 1;
  let hasOperationAttrVerify = 1;
  let dependentDialects = ["::sluice::moe::MoeDialect"];
  let extraClassDeclaration = [{
    /// Module attribute (array<i64>): token counts of the buckets, ascending.
    static constexpr llvm::StringLiteral getBucketsAttrName() { return "plan.buckets"; }
    void registerAttributes();
    void registerTypes();
  }];
}

class Plan_Type<string name, string typeMnemonic> : TypeDef<Plan_Dialect, name> {
  let mnemonic = typeMnemonic;
}

def Plan_BufferType : Plan_Type<"Buffer", "buffer"> {
  let summary = "memory of a size in bytes";
  let description = [{
    What the bytes mean is the business of the kernels that take the buffer.
    ```mlir
    !plan.buffer<8192>
    ```
    Constraints: (C1) the size is positive.
  }];
  let parameters = (ins "int64_t":$bytes);
  let assemblyFormat = "`<` $bytes `>`";
  let genVerifyDecl = 1;
}

def Plan_EventType : Plan_Type<"Event", "event"> {
  let summary = "a point of a stream that other streams can wait for";
}

class Plan_Enum<string name, string summary, list<I32EnumAttrCase> cases>
    : I32EnumAttr<name, summary, cases> {
  let cppNamespace = "::sluice::plan";
  let genSpecializedAttr = 0;
}

// In the order in which a rank's slabs are declared and numbered.
def Plan_SlabKind : Plan_Enum<"SlabKind", "kind of memory", [
  I32EnumAttrCase<"Weights", 0, "weights">, I32EnumAttrCase<"Kv", 1, "kv">,
  I32EnumAttrCase<"Arena", 2, "arena">, I32EnumAttrCase<"Io", 3, "io">]>;
def Plan_SlabKindAttr : EnumAttr<Plan_Dialect, Plan_SlabKind, "slab_kind"> {
  let assemblyFormat = "$value";
}

def Plan_CollectiveKind : Plan_Enum<"CollectiveKind", "collective", [
  I32EnumAttrCase<"AllReduce", 0, "all_reduce">, I32EnumAttrCase<"AllGather", 1, "all_gather">,
  I32EnumAttrCase<"ReduceScatter", 2, "reduce_scatter">,
  I32EnumAttrCase<"AllToAll", 3, "all_to_all">, I32EnumAttrCase<"Broadcast", 4, "broadcast">]>;
def Plan_CollectiveKindAttr : EnumAttr<Plan_Dialect, Plan_CollectiveKind, "collective_kind"> {
  let assemblyFormat = "$value";
}

def Plan_RangeAttr : AttrDef<Plan_Dialect, "Range"> {
  let mnemonic = "range";
  let summary = "bytes of a slab of the program's rank";
  let description = [{
    A rank has one slab of each kind, so the kind names it. Operations print ranges
    without the attribute's own spelling: `arena[4096 for 8192]` is 8192 bytes at
    offset 4096.
    Constraints: (C1) the offset is not negative, the size positive, and their sum fits
    63 bits.
  }];
  let parameters = (ins "::sluice::plan::SlabKind":$slab, "int64_t":$offset, "int64_t":$bytes);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    int64_t getEnd() const { return getOffset() + getBytes(); }
  }];
}

#endif // SLUICE_DIALECTS_PLAN_PLANDIALECT_TD
