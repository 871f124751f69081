//===- PlanOps.td - Operations of `plan` -------------------*- tablegen -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Order: what a plan declares (kernels, ranks, their memory, programs), `plan.async.*` (buffers are
// values) and `plan.cmd.*` (arguments are ranges of slabs). Constraints are numbered per operation
// (C1, C2, ...) here and in the verifiers' messages.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_DIALECTS_PLAN_PLANOPS_TD
#define SLUICE_DIALECTS_PLAN_PLANOPS_TD

include "dialects/Plan/PlanDialect.td"
include "mlir/IR/OpAsmInterface.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

class Plan_Op<string mnemonic, list<Trait> traits = []> : Op<Plan_Dialect, mnemonic, traits>;

// Names its results after what they hold, which makes programs readable without comments.
class Plan_NamedOp<string mnemonic, list<Trait> traits = []>
    : Plan_Op<mnemonic, !listconcat(traits,
              [DeclareOpInterfaceMethods<OpAsmOpInterface, ["getAsmResultNames"]>])>;

def Plan_Count : ConfinedAttr<I64Attr, [IntPositive]>;
def Plan_Offset : ConfinedAttr<I64Attr, [IntNonNegative]>;
def Plan_Stream : ConfinedAttr<I64Attr, [IntNonNegative]>;

//===----------------------------------------------------------------------===//
// Declarations
//===----------------------------------------------------------------------===//

def Plan_KernelOp : Plan_Op<"kernel", [Symbol, HasParent<"::mlir::ModuleOp">]> {
  let summary = "a kernel family with its constants";
  let description = [{
    The family names a calling convention (runtime/artifact/KernelFamilies.h), the
    parameters are what the kernel is specialised with. Kernels are shared by all ranks
    and buckets; equal ones are one symbol.
    ```mlir
    plan.kernel @linear_0 = "linear"(n = 256, k = 256, format = "bf16", rows = "tokens",
                                     bias = 0, scale = 1.0, softcap = 0.0)
    ```
    Constraints: (C1) the parameters are exactly those of the family and in its ranges.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, StrAttr:$family, DictionaryAttr:$params);
  let assemblyFormat = "$sym_name `=` $family `` custom<KernelParams>($params, ref($family)) attr-dict";
  let hasVerifier = 1;
  let builders = [
    OpBuilder<(ins "::llvm::StringRef":$name, "const ::sluice::abi::FamilyParams &":$params)>,
  ];
  let extraClassDeclaration = [{
    /// The parameters as the runtime reads them; fails where the verifier would.
    ::sluice::Result<::sluice::abi::FamilyParams> getFamilyParams();
  }];
}

def Plan_RankOp : Plan_Op<"rank", [Symbol, SymbolTable, HasParent<"::mlir::ModuleOp">,
    NoTerminator, SingleBlock, NoRegionArguments, IsolatedFromAbove]> {
  let summary = "what one rank stores and runs";
  let description = [{
    Its own names (weights, caches, IO buffers, programs) live in its symbol table, so
    that they are the same on every rank. Kernels and the `moe.weight`s that stored
    weights are made from belong to the module and are looked up there.
    ```mlir
    plan.rank @rank0 number 0 {
      plan.slab weights bytes 1048576 align 4096
      plan.weight @layers.0.attn.qkv ...
      plan.program @tokens16 tokens 16 ...
    }
    ```
    Constraints: (C1) numbers are unique in the module; (C2) one slab of each kind at
    most; (C3) programs have distinct token counts, ascending; (C4) either all programs are packed
    or none is, and slabs and offsets stand exactly in packed ranks.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, Plan_Offset:$number);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$sym_name `number` $number attr-dict-with-keyword $body";
  let hasRegionVerifier = 1;
  let skipDefaultBuilders = 1;
  let builders = [OpBuilder<(ins "::llvm::StringRef":$name, "int64_t":$number)>];
  let extraClassDeclaration = [{
    ::mlir::Block *getBlock() { return &getBody().front(); }
    auto getWeights() { return getBody().getOps<WeightOp>(); }
    auto getCaches() { return getBody().getOps<CacheOp>(); }
    auto getIoBuffers() { return getBody().getOps<IoOp>(); }
    auto getSlabs() { return getBody().getOps<SlabOp>(); }
    /// In ascending order of tokens.
    auto getPrograms() { return getBody().getOps<ProgramOp>(); }
    /// The slab of that kind, or null.
    SlabOp getSlab(SlabKind kind);
    /// Whether the programs are in the `plan.cmd` phase.
    bool isPacked();
  }];
}

def Plan_SlabOp : Plan_Op<"slab", [HasParent<"RankOp">]> {
  let summary = "one allocation of a rank";
  let description = [{
    `weights` is mapped from the weights file; `kv` persists across steps; the contents
    of `arena` live within one step, and all programs share its offsets; `io` is written
    and read by the host program.
    ```mlir
    plan.slab arena bytes 126976 align 256
    ```
    Constraints: (C1) the alignment is a power of two of at least 64.
  }];
  let arguments = (ins Plan_SlabKindAttr:$kind, Plan_Offset:$bytes, Plan_Count:$alignment);
  let assemblyFormat = "`` $kind `bytes` $bytes `align` $alignment attr-dict";
  let hasVerifier = 1;
}

def Plan_WeightOp : Plan_Op<"weight", [Symbol, HasParent<"RankOp">,
    DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "a weight as kernels stream it";
  let description = [{
    The `moe.weight` it is made from, the layout (`row_major`, or one of
    runtime/quant/PackedLayout.h) and the format of the stored elements; the symbol is
    the key in the weights file. Packing adds the offset in the weights slab.
    ```mlir
    plan.weight @layers.0.attn.qkv from @layers.0.attn.qkv layout "panel16" format "bf16" bytes 131072 at 4096
    ```
    Constraints: (C1) layout and format are known; (C2) `from` is a moe.weight of the module,
    whose shape the layout takes: [N, K] or [E, N, K] for panel16, [2, N, K] or
    [E, 2, N, K] for gate_up_panel16; (C3) bytes are those of that shape in that
    layout; (C4) the offset is a multiple of 4096; (C5) the bytes lie in the weights slab.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, FlatSymbolRefAttr:$from, StrAttr:$layout,
                       StrAttr:$format, Plan_Count:$bytes, OptionalAttr<Plan_Offset>:$offset);
  let assemblyFormat = "$sym_name `from` $from `layout` $layout `format` $format `bytes` $bytes (`at` $offset^)? attr-dict";
  let hasVerifier = 1;
}

class Plan_RankBuffer<string mnemonic> : Plan_Op<mnemonic, [Symbol, HasParent<"RankOp">]> {
  let arguments = (ins SymbolNameAttr:$sym_name, Plan_Count:$bytes,
                       OptionalAttr<Plan_Offset>:$offset);
  let assemblyFormat = "$sym_name `bytes` $bytes (`at` $offset^)? attr-dict";
  let hasVerifier = 1;
}

def Plan_CacheOp : Plan_RankBuffer<"cache"> {
  let summary = "the keys or the values of one layer, paged";
  let description = [{
    ```mlir
    plan.cache @layers.0.kv.keys bytes 65536 at 0
    ```
    Constraints: (C1) the offset is a multiple of 4096; (C2) the bytes lie in the kv slab.
  }];
}

def Plan_IoOp : Plan_RankBuffer<"io"> {
  let summary = "a buffer of the step interface";
  let description = [{
    Named as in runtime/artifact/StepAbi.h and sized for the largest step; programs of
    smaller buckets use the front part.
    ```mlir
    plan.io @token_ids bytes 256 at 256
    ```
    Constraints: (C1) the offset is a multiple of 256; (C2) the bytes lie in the io slab.
  }];
}

def Plan_ProgramOp : Plan_Op<"program", [Symbol, HasParent<"RankOp">, IsolatedFromAbove,
    NoTerminator, SingleBlock, NoRegionArguments,
    DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "the launches of one step of up to `tokens` tokens, in order";
  let description = [{
    Operations of one stream run in program order; events order streams. A packed
    program says how much of the arena it uses and the most bytes that are live at once,
    which no packing can beat (sizes rounded up to the arena's alignment).
    ```mlir
    plan.program @tokens16 tokens 16 arena 126976 live 122880 {
      plan.cmd.launch @linear_0(io[0 for 32], arena[0 for 16384], weights[4096 for 131072], none, arena[16384 for 16384]) stream 0 label "layers.0.attn.out"
    }
    ```
    Constraints: (C1) operations are all plan.async or all plan.cmd; (C2) arena and live
    are given exactly in packed programs and live <= arena; (C3) the module has the
    limits of a step (moe.limits) and tokens does not exceed max_batch_tokens.
    The operations' constraints on kernels, slabs and symbols are checked here, where
    each kernel is parsed once.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, Plan_Count:$tokens,
                       OptionalAttr<Plan_Offset>:$arena_bytes,
                       OptionalAttr<Plan_Offset>:$live_bytes);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$sym_name `tokens` $tokens (`arena` $arena_bytes^ `live` $live_bytes)? attr-dict-with-keyword $body";
  let hasVerifier = 1;
  let hasRegionVerifier = 1;
  let skipDefaultBuilders = 1;
  let builders = [OpBuilder<(ins "::llvm::StringRef":$name, "int64_t":$tokens)>];
  let extraClassDeclaration = [{
    ::mlir::Block *getBlock() { return &getBody().front(); }
    bool isPacked() { return getArenaBytes().has_value(); }
    RankOp getRank();
    /// The sizes of a step of this bucket under the module's limits; fails without limits.
    ::mlir::FailureOr<::sluice::abi::StepDims> getStepDims();
    /// The launches of a packed program, in order.
    auto getLaunches() { return getBody().getOps<CmdLaunchOp>(); }
  }];
}

//===----------------------------------------------------------------------===//
// plan.async: buffers are values
//===----------------------------------------------------------------------===//

class Plan_InProgram<string mnemonic, list<Trait> traits = []>
    : Plan_Op<mnemonic, !listconcat(traits, [HasParent<"ProgramOp">])>;
class Plan_BufferSource<string mnemonic, list<Trait> traits = []>
    : Plan_NamedOp<"async." # mnemonic, !listconcat(traits, [HasParent<"ProgramOp">])>;

def Plan_AsyncTransientOp : Plan_BufferSource<"transient"> {
  let summary = "a buffer that lives from its first to its last use";
  let description = [{
    ```mlir
    %q = plan.async.transient "layers.0.attn.qkv.q" : !plan.buffer<16384>
    ```
  }];
  let arguments = (ins StrAttr:$name);
  let results = (outs Plan_BufferType:$result);
  let assemblyFormat = "$name attr-dict `:` qualified(type($result))";
}

def Plan_AsyncWeightOp : Plan_BufferSource<"weight", [Pure]> {
  let summary = "a weight of the rank";
  let description = [{
    ```mlir
    %w = plan.async.weight @layers.0.attn.qkv : !plan.buffer<131072>
    ```
    Constraints: (C1) there is such a plan.weight; (C2) the buffer has its size.
  }];
  let arguments = (ins FlatSymbolRefAttr:$symbol);
  let results = (outs Plan_BufferType:$result);
  let assemblyFormat = "$symbol attr-dict `:` qualified(type($result))";
}

def Plan_AsyncCacheOp : Plan_BufferSource<"cache", [Pure]> {
  let summary = "a cache of the rank";
  let description = [{
    ```mlir
    %k = plan.async.cache @layers.0.kv.keys : !plan.buffer<65536>
    ```
    Constraints: (C1) there is such a plan.cache; (C2) the buffer has its size.
  }];
  let arguments = (ins FlatSymbolRefAttr:$symbol);
  let results = (outs Plan_BufferType:$result);
  let assemblyFormat = "$symbol attr-dict `:` qualified(type($result))";
}

def Plan_AsyncIoOp : Plan_BufferSource<"io", [Pure]> {
  let summary = "bytes of an IO buffer of the rank";
  let description = [{
    ```mlir
    %ids = plan.async.io @token_ids : !plan.buffer<64>
    %counts = plan.async.io @expert_counts at 32 : !plan.buffer<32>
    ```
    Constraints: (C1) there is such a plan.io; (C2) the bytes lie inside it.
  }];
  let arguments = (ins FlatSymbolRefAttr:$symbol,
                       DefaultValuedAttr<Plan_Offset, "0">:$offset);
  let results = (outs Plan_BufferType:$result);
  let assemblyFormat = "$symbol (`at` $offset^)? attr-dict `:` qualified(type($result))";
}

def Plan_AsyncLaunchOp : Plan_InProgram<"async.launch"> {
  let summary = "runs a kernel on buffers";
  let description = [{
    Arguments stand in the order of the kernel family, with their bytes in brackets; an
    absent optional one is printed as `none`. Which arguments are read, written or scratch follows from the family and
    is not repeated here.
    ```mlir
    plan.async.launch @linear_0(%header[32], %x[16384], %w[131072], none, %y[16384]) stream 0 label "layers.0.attn.out"
    ```
    Constraints: (C1) there is such a plan.kernel; (C2) as many arguments as its family takes; (C3) an
    argument is absent exactly when the kernel's parameters say so; (C4) every argument has at
    least the bytes that the family needs in this bucket.
  }];
  // `present` says for every argument whether one of `buffers` stands for it.
  let arguments = (ins FlatSymbolRefAttr:$kernel, Variadic<Plan_BufferType>:$buffers,
                       DenseBoolArrayAttr:$present, Plan_Stream:$stream, StrAttr:$label);
  let assemblyFormat = "$kernel `` custom<LaunchArgs>($buffers, type($buffers), $present) `stream` $stream `label` $label attr-dict";
  let hasVerifier = 1;
  let skipDefaultBuilders = 1;
  let builders = [
    OpBuilder<(ins "::mlir::FlatSymbolRefAttr":$kernel, "::llvm::ArrayRef<::mlir::Value>":$args,
                   "int64_t":$stream, "::llvm::StringRef":$label)>,
  ];
  let extraClassDeclaration = [{
    /// In the order of the kernel family; null = absent.
    ::llvm::SmallVector<::mlir::Value> getArgs();
    /// The kernel's declaration in the module.
    KernelOp lookupKernel();
  }];
}

def Plan_AsyncRecordOp : Plan_InProgram<"async.record"> {
  let summary = "an event that occurs when the stream has come here";
  let description = [{
    ```mlir
    %done = plan.async.record stream 1
    ```
  }];
  let arguments = (ins Plan_Stream:$stream);
  let results = (outs Plan_EventType:$event);
  let assemblyFormat = "`stream` $stream attr-dict";
}

def Plan_AsyncWaitOp : Plan_InProgram<"async.wait"> {
  let summary = "holds a stream back until an event has occurred";
  let description = [{
    ```mlir
    plan.async.wait %done stream 0
    ```
  }];
  let arguments = (ins Plan_EventType:$event, Plan_Stream:$stream);
  let assemblyFormat = "$event `stream` $stream attr-dict";
}

def Plan_AsyncCollectiveOp : Plan_InProgram<"async.collective"> {
  let summary = "exchanges buffers between ranks";
  let description = [{
    Every rank of the list runs the same collectives of that list in the same order.
    The i-th rank of the list sends and receives the i-th part of a buffer. all_reduce
    and reduce_scatter add elements; broadcast sends the buffer of `root`. With `rows`, parts are
    as many rows of `width` elements as the buffer of counts (i32, one per rank of the list) says
    in each step, and the buffers hold as many rows as the program allows.
    ```mlir
    plan.async.collective all_reduce %partial into %sum of f32 among [0, 1] stream 0 label "layers.0.attn.reduce"
    plan.async.collective broadcast %x into %y of f32 among [0, 1] root 0 stream 0 label "weights"
    plan.async.collective all_gather %x into %y of f32 among [0, 1] rows %counts : !plan.buffer<8> width 256 stream 0 label "layers.0.norm.gather"
    ```
    Constraints: (C1) ranks are distinct and not negative, at least one; (C2) the program's rank
    is one of them; (C3) broadcast has a root among the ranks, others none; (C4) with n
    ranks: all_gather's result has n times the bytes of its source, reduce_scatter's
    source n times those of its result, others equal bytes; (C5) every part is a whole
    number of elements; (C6) only all_gather and reduce_scatter take rows, together with a width,
    of counts of 4 bytes for each rank; both buffers then have equal bytes, whole rows.
  }];
  let arguments = (ins Plan_CollectiveKindAttr:$kind, Plan_BufferType:$source,
                       Plan_BufferType:$result, TypeAttr:$element_type,
                       DenseI64ArrayAttr:$ranks, OptionalAttr<Plan_Offset>:$root,
                       Optional<Plan_BufferType>:$counts, OptionalAttr<Plan_Count>:$width,
                       Plan_Stream:$stream, StrAttr:$label);
  let assemblyFormat = [{
    `` $kind $source `into` $result `of` $element_type `among` $ranks (`root` $root^)?
    (`rows` $counts^ `:` qualified(type($counts)) `width` $width)?
    `stream` $stream `label` $label attr-dict `:` qualified(type($source)) `,` qualified(type($result))
  }];
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// plan.cmd: arguments are ranges of slabs
//===----------------------------------------------------------------------===//

def Plan_CmdLaunchOp : Plan_InProgram<"cmd.launch"> {
  let summary = "runs a kernel on ranges of slabs";
  let description = [{
    ```mlir
    plan.cmd.launch @linear_0(io[0 for 32], arena[0 for 16384], weights[4096 for 131072], none,
                              arena[16384 for 16384]) stream 0 label "layers.0.attn.out"
    ```
    Constraints: (C1) - (C4) as of plan.async.launch; (C5) ranges lie in their slab, those of the
    arena in what the program uses of it; (C6) ranges of arena and io begin at
    multiples of 256, except expert counts; (C7) a written range overlaps no other argument,
    unless it is equal to the one that the family allows it to replace; (C8) weights are only read.
  }];
  let arguments = (ins FlatSymbolRefAttr:$kernel, ArrayAttr:$args, Plan_Stream:$stream,
                       StrAttr:$label);
  let assemblyFormat = "$kernel `` custom<RangeList>($args) `stream` $stream `label` $label attr-dict";
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// In the order of the kernel family; null = absent.
    ::llvm::SmallVector<RangeAttr> getRanges();
    /// The kernel's declaration in the module.
    KernelOp lookupKernel();
  }];
}

def Plan_CmdRecordOp : Plan_InProgram<"cmd.record"> {
  let summary = "event `event` occurs when the stream has come here";
  let description = [{
    ```mlir
    plan.cmd.record event 3 stream 1
    ```
    Constraints: (C1) an event is recorded once per program.
  }];
  let arguments = (ins Plan_Offset:$event, Plan_Stream:$stream);
  let assemblyFormat = "`event` $event `stream` $stream attr-dict";
}

def Plan_CmdWaitOp : Plan_InProgram<"cmd.wait"> {
  let summary = "holds a stream back until an event has occurred";
  let description = [{
    ```mlir
    plan.cmd.wait event 3 stream 0
    ```
    Constraints: (C1) the event is recorded earlier in the program.
  }];
  let arguments = (ins Plan_Offset:$event, Plan_Stream:$stream);
  let assemblyFormat = "`event` $event `stream` $stream attr-dict";
}

def Plan_CmdCollectiveOp : Plan_InProgram<"cmd.collective"> {
  let summary = "exchanges ranges of slabs between ranks";
  let description = [{
    ```mlir
    plan.cmd.collective all_reduce arena[0 for 16384] into arena[16384 for 16384] of f32 among [0, 1] stream 0 label "layers.0.attn.reduce"
    ```
    Constraints: (C1) - (C6) as of plan.async.collective; (C7) ranges lie in their slab;
    (C8) the written range is not in the weights slab and does not overlap another one,
    unless source and result are equal.
  }];
  let arguments = (ins Plan_CollectiveKindAttr:$kind, Plan_RangeAttr:$source,
                       Plan_RangeAttr:$result, TypeAttr:$element_type,
                       DenseI64ArrayAttr:$ranks, OptionalAttr<Plan_Offset>:$root,
                       OptionalAttr<Plan_RangeAttr>:$counts, OptionalAttr<Plan_Count>:$width,
                       Plan_Stream:$stream, StrAttr:$label);
  let assemblyFormat = [{
    `` $kind custom<Range>($source) `into` custom<Range>($result) `of` $element_type `among` $ranks
    (`root` $root^)? (`rows` custom<Range>($counts)^ `width` $width)?
    `stream` $stream `label` $label attr-dict
  }];
  let hasVerifier = 1;
}

#endif // SLUICE_DIALECTS_PLAN_PLANOPS_TD
