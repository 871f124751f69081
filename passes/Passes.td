//===- Passes.td - Passes of the Sluice compiler -----------*- tablegen -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// One declaration per pass, in the order of the phases. compiler/pipelines/ says which phase runs
// which pass and why; passes/<Topic>/ holds the code.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_PASSES_PASSES_TD
#define SLUICE_PASSES_PASSES_TD

include "mlir/Pass/PassBase.td"

//===----------------------------------------------------------------------===//
// normalized
//===----------------------------------------------------------------------===//

def NormalizeModel : Pass<"sluice-normalize-model", "::mlir::ModuleOp"> {
  let summary = "bring an imported model into its canonical form";
  let description = [{
    Input: a module with one model function of `moe` model operations, as importers
    emit it. Output: the same model with
    - operations that do nothing removed (query temperature of scale 0, a clamp of an
      equal or tighter clamp, a rotation of no entries);
    - weights with equal expressions unified into the first of them, so that tied
      embeddings and shared tensors are stored once;
    - unused weights and caches dropped, so that nothing dead is planned or written.
    Assumes that the module verifies. Linear in the number of operations.
  }];
  let dependentDialects = ["::sluice::moe::MoeDialect"];
}

//===----------------------------------------------------------------------===//
// quantized
//===----------------------------------------------------------------------===//

def ConvertWeights : Pass<"sluice-convert-weights", "::mlir::ModuleOp"> {
  let summary = "store the weights of products in one unquantised element type";
  let description = [{
    Wraps the weight of every product (linear, router, feed-forward, experts) and the
    embedding table in `#moe.convert` to the asked element type. Norm weights, biases
    and sinks keep theirs: they are tiny and kernels take them as float32.
  }];
  let options = [
    Option<"format", "format", "std::string", /*default=*/"\"keep\"",
           "element type: keep (as the checkpoint stores them), bf16, f16 or f32. bf16 "
           "halves a float32 checkpoint; f32 keeps every bit of a mixed one">,
  ];
  let dependentDialects = ["::sluice::moe::MoeDialect"];
}

def QuantizeWeights : Pass<"sluice-quantize-weights", "::mlir::ModuleOp"> {
  let summary = "store the weights of products as codes and scales";
  let description = [{
    Wraps weights in `#moe.quantize`; codes and scales are computed while the artifact is
    written. A rule is FORMAT or FORMAT:SCOPE+SCOPE; a later rule replaces earlier ones
    where both apply. Formats: fp8-tensor, fp8-channel, fp8-block, int8-channel, int4-g32,
    int4-g128, mxfp4, nvfp4. Scopes: attention (linear layers that are no other), ffn
    (dense feed-forward parts), experts, shared (shared experts); all of them when none is
    named. Routers, embeddings, the head, norms, gates of shared experts and kv_b of latent
    attention (whose halves are transposed per head) are kept. So are, with a remark,
    weights that the checkpoint stores quantised. A matrix that a format cannot take (a row
    that is not whole groups of columns) is an error, or kept with a remark when
    `skip-unfit` is set. Runs after sluice-convert-weights: what that pass has converted is
    no longer quantised. `activations` = fp8 also rounds the activations that fp8 weights
    are multiplied with.
  }];
  let options = [
    ListOption<"rules", "rules", "std::string",
               "FORMAT or FORMAT:SCOPE+SCOPE, for example mxfp4:experts; lower precision "
               "decodes faster and costs quality">,
    ListOption<"exclude", "exclude", "std::string",
               "glob patterns of weight names that stay as they are, layers.0.*; for layers "
               "that a format hurts">,
    Option<"skipUnfit", "skip-unfit", "bool", /*default=*/"false",
           "keep matrices that a format cannot take instead of refusing them">,
    Option<"activations", "activations", "std::string", /*default=*/"\"f32\"",
           "f32, or fp8: e4m3 with a scale per 128 columns, as tensor cores multiply them">,
  ];
  let dependentDialects = ["::sluice::moe::MoeDialect"];
}

//===----------------------------------------------------------------------===//
// placed
//===----------------------------------------------------------------------===//

def ParallelizeModel : Pass<"sluice-parallelize-model", "::mlir::ModuleOp"> {
  let summary = "decide how many ranks share experts, heads and sequences";
  let description = [{
    Sets the module attribute `moe.parallel = {ranks, tp, ep, dp}`: ep expert groups of tp ranks,
    tp * ep = ranks, and dp data parallel groups of attention. tp and ep follow from one another;
    without either, experts are dealt to as many groups as there are ranks and experts for. With
    data parallel groups, each gets its share of `num_pages` in `moe.limits`.
  }];
  let options = [
    Option<"ranks", "ranks", "int64_t", /*default=*/"1", "number of ranks of the plan">,
    Option<"tp", "tp", "int64_t", /*default=*/"0",
           "ranks that split every expert of a group; 0 = ranks / ep. For few, wide experts">,
    Option<"ep", "ep", "int64_t", /*default=*/"0",
           "expert groups; 0 = ranks / tp. For many, narrow experts">,
    Option<"dp", "dp", "int64_t", /*default=*/"1",
           "data parallel groups of attention, each with its own sequences and caches; for models "
           "whose caches do not split by heads">,
  ];
  let dependentDialects = ["::sluice::moe::MoeDialect"];
}

def PlaceExperts : Pass<"sluice-place-experts", "::mlir::ModuleOp"> {
  let summary = "decide which expert groups hold which experts";
  let description = [{
    Sets `placement = {slots}` on every `moe.experts`: per group of ranks the experts that
    it stores. Without a profile, as many slots as experts are dealt out in contiguous
    parts and more slots in turn (slot s holds expert s mod E), so that no group holds an
    expert twice. With profiles, the solver of docs/placement.md replicates and places by
    them, each one a sample of the traffic: for `prefill` it balances tokens, for `decode`
    it lowers the largest number of activated experts of a group. The layer is the number
    in the name of the weights, "layers.N."; without one, the N-th moe.experts.
  }];
  let options = [
    Option<"groups", "groups", "int64_t", /*default=*/"0",
           "expert groups; 0 = `ep` of the module's parallel attribute, or 1">,
    Option<"slots", "slots", "int64_t", /*default=*/"0",
           "expert slots of a layer over all groups, for replicas of busy experts; 0 = one per "
           "expert">,
    ListOption<"profiles", "profiles", "std::string",
               "profile files of this model, in any format that sluice-profile reads">,
    Option<"phase", "phase", "std::string", /*default=*/"\"prefill\"",
           "what is balanced: `prefill` or `decode`">,
  ];
  let dependentDialects = ["::sluice::moe::MoeDialect"];
}

//===----------------------------------------------------------------------===//
// fused
//===----------------------------------------------------------------------===//

def FuseResidualNorm : Pass<"sluice-fuse-residual-norm", "::mlir::ModuleOp"> {
  let summary = "merge a residual addition with the norm that reads it";
  let description = [{
    `moe.residual` + `moe.norm` over the whole row -> `moe.residual_norm`: the sum is
    written once and normalised while it is in registers. A sum read by several norms
    is merged with the first one.
  }];
  let dependentDialects = ["::sluice::moe::MoeDialect"];
}

def FuseQkv : Pass<"sluice-fuse-qkv", "::mlir::ModuleOp"> {
  let summary = "merge the q/k/v projections with q/k norm, rotation and cache write";
  let description = [{
    Starts at every `moe.cache_append` of a cache with separate keys and values, walks
    the chains of the key, the value and of the query that attends to the same cache
    back to three projections of one input, and replaces all of it by one `moe.qkv`
    whose weight is the concatenation. Chains may hold, in this order: projection,
    clamp, norm, rotation, L2 norm and (query only) temperature. A chain of another
    form is an error that names the operation: no kernel runs it unfused.
  }];
  let dependentDialects = ["::sluice::moe::MoeDialect"];
}

def FuseLatentAttention : Pass<"sluice-fuse-latent-attention", "::mlir::ModuleOp"> {
  let summary = "absorb kv_b into the queries and outputs of latent attention";
  let description = [{
    Starts at every `moe.cache_append` of a latent cache. The latent (projection, rms
    norm) and the rope part (projection, rotation) of one input become one product and
    one `moe.latent_append`; `moe.latent_attention` and the rotation of its query
    become `moe.latent_query` and `moe.absorbed_attention`, whose weights are the
    key and the value half of kv_b per head; a `moe.temperature` of the query moves
    before them. Attention to the latents themselves costs
    more arithmetic per cached token than expanded keys and values would, but reads
    each of them once for all heads and keeps no expanded copy. A chain of another form
    is an error that names the operation: no kernel runs it unfused.
  }];
  let dependentDialects = ["::sluice::moe::MoeDialect"];
}

def FuseRouter : Pass<"sluice-fuse-router", "::mlir::ModuleOp"> {
  let summary = "merge router product, choice and the sort by expert";
  let description = [{
    `moe.linear` + `moe.route` -> `moe.router`, which also yields the expert-major
    order that the expert operations need.
  }];
  let dependentDialects = ["::sluice::moe::MoeDialect"];
}

def FuseExperts : Pass<"sluice-fuse-experts", "::mlir::ModuleOp"> {
  let summary = "split feed-forward parts into gate+up+activation and down+combine";
  let description = [{
    `moe.experts` -> `moe.experts_gate_up` + `moe.experts_down`, and `moe.ffn` ->
    `moe.ffn_gate_up` + `moe.linear`. Gate and up weights are stacked so that one
    kernel streams both. Assumes that sluice-fuse-router ran: the expert-major order
    comes from the `moe.router` that chose the experts.
  }];
  let dependentDialects = ["::sluice::moe::MoeDialect"];
}

//===----------------------------------------------------------------------===//
// partitioned
//===----------------------------------------------------------------------===//

def PartitionRanks : Pass<"sluice-partition-ranks", "::mlir::ModuleOp"> {
  let summary = "make one program per rank";
  let description = [{
    Turns the model function `@step` into `@rank0`, `@rank1`, ..., marked with `moe.rank`, as
    `moe.parallel` says (absent: one rank), and adds `attention_tp` to it: the largest divisor of
    ranks / dp by which the heads of every attention layer can be split. Weights become those parts
    that the rank works with (parts that several ranks share are one symbol); sums over ranks
    become `moe.all_reduce`, and with data parallel groups `moe.all_gather` before and
    `moe.reduce_scatter` after feed-forward parts. Assumes fused operations and, with several
    expert groups, placements. Refuses parts that would cut the scale blocks of a quantised weight.
    Linear in operations x ranks.
  }];
  let dependentDialects = ["::sluice::moe::MoeDialect"];
}

//===----------------------------------------------------------------------===//
// planned
//===----------------------------------------------------------------------===//

def ChooseBuckets : Pass<"sluice-choose-buckets", "::mlir::ModuleOp"> {
  let summary = "decide which token counts get a program of their own";
  let description = [{
    Sets the module attribute `plan.buckets`. A step runs in the smallest bucket that
    holds its tokens. Without options the buckets are 1, 2, 4, ... and the step limit
    max_batch_tokens, which wastes less than half of any step; with a histogram of step
    sizes they are those with the least padding (exact, by dynamic programming).
    Assumes the module attribute `moe.limits`.
  }];
  let options = [
    ListOption<"buckets", "buckets", "int64_t",
               "token counts, ascending, taken as they are; max_batch_tokens is added when "
               "missing. For step sizes that are known to recur">,
    ListOption<"arrivals", "arrivals", "std::string",
               "histogram of step sizes as TOKENS:COUNT pairs, from a recorded workload; "
               "buckets are chosen for it">,
    Option<"maxBuckets", "max-buckets", "int64_t", /*default=*/"16",
           "most buckets chosen for a histogram; fewer start faster and take less memory">,
    Option<"bucketCost", "bucket-cost", "double", /*default=*/"0.0",
           "padded tokens that one more bucket must save to be worth it">,
  ];
  let dependentDialects = ["::sluice::plan::PlanDialect"];
}

def LowerMoeToPlan : Pass<"sluice-lower-moe-to-plan", "::mlir::ModuleOp"> {
  let summary = "turn every rank's function into programs of kernel launches";
  let description = [{
    Input: one function per rank (attribute `moe.rank`) of fused `moe` operations, and
    `plan.buckets`. Output: one `plan.rank` for each function with a `plan.async` program
    for each bucket, the weights in the layouts that kernels stream, the caches and the
    IO buffers of the step; and the kernels, equal ones only once. Each operation
    becomes one launch; rotation frequencies become constant weights. Functions and
    `moe.kv_cache`s are gone afterwards, `moe.weight`s stay as the recipes of stored
    weights. Operations that have no kernel family are errors that name the fusion they
    need. Linear in operations x buckets.
  }];
  let dependentDialects = ["::sluice::moe::MoeDialect", "::sluice::plan::PlanDialect"];
}

def PackMemory : Pass<"sluice-pack-memory", "::mlir::ModuleOp"> {
  let summary = "give every buffer its place: plan.async -> plan.cmd";
  let description = [{
    Places weights and caches (at multiples of 4096) and IO buffers (256) in the order
    of their declaration, and packs the transient buffers of every program by their
    lifetimes into the arena, which all programs of a rank share. A result takes over the
    place of an operand that dies where the kernel family allows it. Programs record
    the bytes used and the lower bound. Lifetimes follow program order, so a program
    that uses several streams gets no reuse: each of its buffers lives from its start to
    its end.
  }];
  let dependentDialects = ["::sluice::plan::PlanDialect"];
}

//===----------------------------------------------------------------------===//
// between phases
//===----------------------------------------------------------------------===//

def VerifyPhase : Pass<"sluice-verify-phase", "::mlir::ModuleOp"> {
  let summary = "check what must hold after a phase, and record it";
  let description = [{
    Checks the invariants of the given phase (which operations may remain, which
    attributes must be there) and sets the module attribute `moe.phase` to its name.
    Stands between every two phases; a failure is a defect of the passes before it, or
    of a hand-written module that claims a phase it has not reached.
  }];
  let options = [
    Option<"phase", "phase", "std::string", /*default=*/"\"input\"",
           "phase whose invariants are checked: input, normalized, quantized, placed, "
           "fused, partitioned or planned">,
  ];
}

#endif // SLUICE_PASSES_PASSES_TD
