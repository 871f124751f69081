//===- MoeOps.td - Operations of `moe` ---------------------*- tablegen -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Order: module-level symbols, model operations (as importers emit them), fused operations (as the
// fusion passes make them), collective operations (as partitioning inserts them). Constraints are
// numbered per operation (C1, C2, ...) here and in the verifiers' messages.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_DIALECTS_MOE_MOEOPS_TD
#define SLUICE_DIALECTS_MOE_MOEOPS_TD

include "dialects/Moe/MoeAttrs.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

class Moe_Op<string mnemonic, list<Trait> traits = []> : Op<Moe_Dialect, mnemonic, traits>;

// Model operations verify their weights through the symbol table.
class Moe_ModelOp<string mnemonic, list<Trait> traits = []>
    : Moe_Op<mnemonic, !listconcat(traits,
             [DeclareOpInterfaceMethods<SymbolUserOpInterface>])> {
  let hasVerifier = 1;
}

def Moe_Resource : Resource<"::sluice::moe::KvCacheResource">;

// [tokens, width]: the first dimension counts tokens (or rows) and is usually dynamic, the second is
// a property of the model and always static.
class Moe_Matrix<list<Type> elements, string description>
    : TypeConstraint<And<[RankedTensorOf<elements>.predicate, HasAnyRankOfPred<[2]>,
                          CPred<"!::llvm::cast<::mlir::ShapedType>($_self).isDynamicDim(1)">]>,
                     description, "::mlir::RankedTensorType">;
def Moe_Rows : Moe_Matrix<[F32, F16, BF16],
    "rank-2 tensor of f32, f16 or bf16 (rows by a static width)">;
def Moe_ExpertIds : Moe_Matrix<[I32], "rank-2 tensor of i32 (tokens by a static top-k)">;
def Moe_ExpertWeights : Moe_Matrix<[F32], "rank-2 tensor of f32 (tokens by a static top-k)">;
def Moe_Ids : TypeConstraint<And<[RankedTensorOf<[I32]>.predicate, HasAnyRankOfPred<[1]>]>,
    "rank-1 tensor of i32 (one per token)", "::mlir::RankedTensorType">;

// Counts of heads divide widths: positive by construction.
def Moe_Count : ConfinedAttr<I64Attr, [IntPositive]>;

//===----------------------------------------------------------------------===//
// Module-level symbols
//===----------------------------------------------------------------------===//

def Moe_WeightOp : Moe_Op<"weight", [Symbol]> {
  let summary = "a named weight of the model";
  let description = [{
    Names where a weight comes from and how it is rearranged; nothing is loaded.
    Quantised weights are expressions of numbers too (#moe.dequantize).
    ```mlir
    moe.weight @layers.0.attn.q : tensor<256x256xbf16>
      = #moe.source<"model.layers.0.self_attn.q_proj.weight" in "model.safetensors" : tensor<256x256xbf16>>
    ```
    Constraints: (C1) the type is the expression's type, which is always static.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, TypeAttrOf<AnyRankedTensor>:$type,
                       TypedAttrInterface:$value);
  let assemblyFormat = "$sym_name `:` $type `=` custom<WeightExpr>($value) attr-dict";
  let hasVerifier = 1;
}

def Moe_KvCacheOp : Moe_Op<"kv_cache", [Symbol]> {
  let summary = "the paged key/value cache of one attention layer";
  let description = [{
    Holds, per cached position, `kv_heads` keys of `head_dim` and values of
    `value_dim` entries. `latent` marks the compressed cache of multi-head latent
    attention: one head whose key is the normalised latent followed by the rotated
    part, and no values (value_dim = 0).
    ```mlir
    moe.kv_cache @layers.0.kv heads 2 key 64 value 64 : f32
    ```
    Constraints: (C1) heads, key > 0 and value >= 0; (C2) `latent` asks for one head
    and value 0; (C3) the element type is f32, f16, bf16 or f8E4M3FN.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, I64Attr:$kv_heads, I64Attr:$head_dim,
                       I64Attr:$value_dim, TypeAttr:$type, UnitAttr:$latent);
  let assemblyFormat = "$sym_name `heads` $kv_heads `key` $head_dim `value` $value_dim (`latent` $latent^)? `:` $type attr-dict";
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Model operations
//===----------------------------------------------------------------------===//

def Moe_EmbeddingOp : Moe_ModelOp<"embedding", [Pure]> {
  let summary = "rows of the embedding table";
  let description = [{
    ```mlir
    %h = moe.embedding %ids table @embed : tensor<?xi32> -> tensor<?x256xf32>
    ```
    Constraints: (C1) the table is [vocabulary, width of the result]; (C2) ids and
    result have the same number of rows.
  }];
  let arguments = (ins Moe_Ids:$ids, FlatSymbolRefAttr:$table,
                       DefaultValuedAttr<F64Attr, "1.0">:$multiplier);
  let results = (outs Moe_Rows:$result);
  let assemblyFormat = "$ids `table` $table (`multiplier` custom<Real>($multiplier)^)? attr-dict `:` type($ids) `->` type($result)";
}

def Moe_NormOp : Moe_ModelOp<"norm", [Pure, AllTypesMatch<["x", "result"]>]> {
  let summary = "normalisation of every row, or of equal groups of every row";
  let description = [{
    ```mlir
    %n = moe.norm rms %x weight @layers.0.input_norm eps 1.0e-05 : tensor<?x256xf32>
    %q = moe.norm rms %p weight @layers.0.q_norm eps 1.0e-06 groups 32 : tensor<?x4096xf32>
    ```
    Constraints: (C1) groups divides the width; (C2) weight and bias have
    width / groups entries; (C3) l2 takes no weight, rms and layer need one; (C4) only
    layer takes a bias; (C5) eps > 0.
  }];
  let arguments = (ins Moe_NormKindAttr:$kind, Moe_Rows:$x,
                       OptionalAttr<FlatSymbolRefAttr>:$weight,
                       OptionalAttr<FlatSymbolRefAttr>:$bias, F64Attr:$eps,
                       DefaultValuedAttr<I64Attr, "1">:$groups);
  let results = (outs Moe_Rows:$result);
  let assemblyFormat = "custom<NormKind>($kind) $x (`weight` $weight^)? (`bias` $bias^)? `eps` custom<Real>($eps) (`groups` $groups^)? attr-dict `:` type($x)";
}

def Moe_LinearOp : Moe_ModelOp<"linear", [Pure]> {
  let summary = "x · W^T + bias";
  let description = [{
    The weight is [out, in] as checkpoints store it. `scale` multiplies and `softcap`
    bounds the result (c * tanh(v / c)), for heads of models that ask for it.
    ```mlir
    %q = moe.linear %n weight @layers.0.q : tensor<?x256xf32> -> tensor<?x256xf32>
    ```
    Constraints: (C1) the weight is [width of result, width of x]; (C2) the bias has
    width-of-result entries; (C3) softcap >= 0; (C4) x and result have equal row counts.
  }];
  let arguments = (ins Moe_Rows:$x, FlatSymbolRefAttr:$weight,
                       OptionalAttr<FlatSymbolRefAttr>:$bias,
                       DefaultValuedAttr<F64Attr, "1.0">:$scale,
                       DefaultValuedAttr<F64Attr, "0.0">:$softcap);
  let results = (outs Moe_Rows:$result);
  let assemblyFormat = "$x `weight` $weight (`bias` $bias^)? (`scale` custom<Real>($scale)^)? (`softcap` custom<Real>($softcap)^)? attr-dict `:` type($x) `->` type($result)";
}

def Moe_ClampOp : Moe_Op<"clamp", [Pure, AllTypesMatch<["x", "result"]>]> {
  let summary = "every entry limited to [-limit, limit]";
  let description = [{
    Constraints: (C1) limit > 0.
  }];
  let arguments = (ins Moe_Rows:$x, F64Attr:$limit);
  let results = (outs Moe_Rows:$result);
  let assemblyFormat = "$x `to` custom<Real>($limit) attr-dict `:` type($x)";
  let hasVerifier = 1;
}

def Moe_RopeOp : Moe_Op<"rope", [Pure, AllTypesMatch<["x", "result"]>]> {
  let summary = "rotary position embedding of every head";
  let description = [{
    ```mlir
    %qr = moe.rope %q at %batch heads 4 rope <dim = 64, base = 1.0e+06> : tensor<?x256xf32>
    ```
    Constraints: (C1) heads divides the width; (C2) offset + dim fits into a head.
  }];
  let arguments = (ins Moe_Rows:$x, Moe_BatchType:$batch, Moe_Count:$heads, Moe_RopeAttr:$rope);
  let results = (outs Moe_Rows:$result);
  let assemblyFormat = "$x `at` $batch `heads` $heads `rope` $rope attr-dict `:` type($x)";
  let hasVerifier = 1;
}

def Moe_TemperatureOp : Moe_Op<"temperature", [Pure, AllTypesMatch<["x", "result"]>]> {
  let summary = "queries scaled by 1 + scale * ln(1 + floor((position + offset) / floor_scale))";
  let description = [{
    Attention temperature tuning: of Llama 4's layers without RoPE (offset 1) and of Mistral
    Large 3 (offset 0).
    Constraints: (C1) floor_scale > 0; (C2) offset >= 0.
  }];
  let arguments = (ins Moe_Rows:$x, Moe_BatchType:$batch, F64Attr:$scale, F64Attr:$floor_scale,
                       DefaultValuedAttr<I64Attr, "1">:$offset);
  let results = (outs Moe_Rows:$result);
  let assemblyFormat = "$x `at` $batch `scale` custom<Real>($scale) `floor_scale` custom<Real>($floor_scale) (`offset` $offset^)? attr-dict `:` type($x)";
  let hasVerifier = 1;
}

def Moe_CacheAppendOp : Moe_ModelOp<"cache_append", [MemoryEffects<[MemWrite<Moe_Resource>]>]> {
  let summary = "stores the keys and values of the step's tokens in a cache";
  let description = [{
    ```mlir
    moe.cache_append %k, %v to @layers.0.kv at %batch : tensor<?x128xf32>, tensor<?x128xf32>
    ```
    For a latent cache the first operand is the normalised latent and the second the
    rotated part; together they are the key.
    Constraints: (C1) widths are kv_heads * head_dim and kv_heads * value_dim, or for a
    latent cache add up to head_dim; (C2) key and value have equal row counts.
  }];
  let arguments = (ins Moe_Rows:$key, Moe_Rows:$value, FlatSymbolRefAttr:$cache,
                       Moe_BatchType:$batch);
  let assemblyFormat = "$key `,` $value `to` $cache `at` $batch attr-dict `:` type($key) `,` type($value)";
}

def Moe_AttentionOp : Moe_ModelOp<"attention", [MemoryEffects<[MemRead<Moe_Resource>]>]> {
  let summary = "causal attention of the step's queries against a cache";
  let description = [{
    Multi-head, grouped and multi-query attention: query heads share the cache's heads
    evenly. `window` > 0 limits a query to that many latest positions, itself
    included; `chunk` > 0 to the positions of its own chunk; `softcap` bounds the
    scores; `sinks` adds one logit per head to the softmax's denominator.
    ```mlir
    %a = moe.attention %q cache @layers.0.kv at %batch heads 4 scale 0.125
         : tensor<?x256xf32> -> tensor<?x256xf32>
    ```
    Constraints: (C1) heads is a multiple of the cache's heads; (C2) x is
    heads * head_dim and the result heads * value_dim wide; (C3) the cache is not
    latent; (C4) sinks have one entry per head; (C5) window, chunk and softcap >= 0 and
    not both window and chunk; (C6) query and result have equal row counts.
  }];
  let arguments = (ins Moe_Rows:$query, FlatSymbolRefAttr:$cache, Moe_BatchType:$batch,
                       Moe_Count:$heads, F64Attr:$scale,
                       OptionalAttr<FlatSymbolRefAttr>:$sinks,
                       DefaultValuedAttr<I64Attr, "0">:$window,
                       DefaultValuedAttr<I64Attr, "0">:$chunk,
                       DefaultValuedAttr<F64Attr, "0.0">:$softcap);
  let results = (outs Moe_Rows:$result);
  let assemblyFormat = "$query `cache` $cache `at` $batch `heads` $heads `scale` custom<Real>($scale) (`sinks` $sinks^)? (`window` $window^)? (`chunk` $chunk^)? (`softcap` custom<Real>($softcap)^)? attr-dict `:` type($query) `->` type($result)";
}

def Moe_LatentAttentionOp : Moe_ModelOp<"latent_attention",
    [MemoryEffects<[MemRead<Moe_Resource>]>]> {
  let summary = "multi-head latent attention against a compressed cache";
  let description = [{
    Each query head is [nope | rope]; the cache holds [latent | rope]. `kv_b` is
    [heads * (nope + value), latent] and turns latents into keys and values; kernels
    either expand (prefill) or absorb it into the query and the output (decode).
    Constraints: (C1) the cache is latent; (C2) query width = heads * (nope + rope) with
    rope = head_dim of the cache - latent; (C3) kv_b is [heads * (nope + value), latent];
    (C4) result width = heads * value; (C5) nope >= 0 and value > 0; (C6) query and result have
    equal row counts.
  }];
  let arguments = (ins Moe_Rows:$query, FlatSymbolRefAttr:$cache, FlatSymbolRefAttr:$kv_b,
                       Moe_BatchType:$batch, Moe_Count:$heads, I64Attr:$nope_dim,
                       I64Attr:$value_dim, F64Attr:$scale);
  let results = (outs Moe_Rows:$result);
  let assemblyFormat = "$query `cache` $cache `kv_b` $kv_b `at` $batch `heads` $heads `nope` $nope_dim `value` $value_dim `scale` custom<Real>($scale) attr-dict `:` type($query) `->` type($result)";
}

def Moe_RouteOp : Moe_ModelOp<"route", [Pure]> {
  let summary = "expert ids and weights of every token";
  let description = [{
    ```mlir
    %ids, %weights = moe.route %logits routing <softmax, top_k = 2, renormalize>
        : tensor<?x8xf32> -> tensor<?x2xi32>, tensor<?x2xf32>
    ```
    `correction` is added to the scores for the choice only.
    Constraints: (C1) top_k <= experts; (C2) results are top_k wide; (C3) groups divides
    the experts; (C4) the kept groups hold at least top_k experts;
    (C5) correction has one entry per expert; (C6) the sparse mixer asks for top_k = 2;
    (C7) logits and results have equal row counts.
  }];
  let arguments = (ins Moe_Rows:$logits, Moe_RoutingAttr:$routing,
                       OptionalAttr<FlatSymbolRefAttr>:$correction);
  let results = (outs Moe_ExpertIds:$ids, Moe_ExpertWeights:$weights);
  let assemblyFormat = "$logits `routing` $routing (`correction` $correction^)? attr-dict `:` type($logits) `->` type($ids) `,` type($weights)";
}

def Moe_ExpertsOp : Moe_ModelOp<"experts", [Pure]> {
  let summary = "grouped gated feed-forward parts, combined by weight";
  let description = [{
    gate and up are [experts, I, H], down is [experts, H, I]. `weight_on_input`
    multiplies a token by its weight before the expert instead of after it.
    `placement` is set by the placement pass: {slots = [array<i64: ...>, ...]} lists for each
    group of ranks the experts that it holds, replicas included; -1 is an empty slot.
    ```mlir
    %m = moe.experts %x, %ids, %weights gate @g up @u down @d activation <silu>
         : tensor<?x256xf32>, tensor<?x4xi32>, tensor<?x4xf32> -> tensor<?x256xf32>
    ```
    Constraints: (C1) gate and up have the same shape [E, I, H]; (C2) down is [E, H, I];
    (C3) H is the width of x and of the result; (C4) biases are [E, I], [E, I], [E, H];
    (C5) gate and up both have a bias or none; (C6) ids and weights are equally wide;
    (C7) x, ids, weights and result have equal row counts; (C8) a placement has one list of slots
    per group, no group holds an expert twice, and all E experts and no others are placed.
  }];
  let arguments = (ins Moe_Rows:$x, Moe_ExpertIds:$ids, Moe_ExpertWeights:$weights,
                       FlatSymbolRefAttr:$gate, FlatSymbolRefAttr:$up, FlatSymbolRefAttr:$down,
                       OptionalAttr<FlatSymbolRefAttr>:$gate_bias,
                       OptionalAttr<FlatSymbolRefAttr>:$up_bias,
                       OptionalAttr<FlatSymbolRefAttr>:$down_bias,
                       Moe_ActivationAttr:$activation, UnitAttr:$weight_on_input,
                       OptionalAttr<DictionaryAttr>:$placement);
  let results = (outs Moe_Rows:$result);
  let assemblyFormat = [{
    $x `,` $ids `,` $weights `gate` $gate `up` $up `down` $down
    (`gate_bias` $gate_bias^)? (`up_bias` $up_bias^)? (`down_bias` $down_bias^)?
    `activation` $activation (`weight_on_input` $weight_on_input^)? (`placement` $placement^)? attr-dict
    `:` type($x) `,` type($ids) `,` type($weights) `->` type($result)
  }];
}

def Moe_FfnOp : Moe_ModelOp<"ffn", [Pure]> {
  let summary = "dense gated feed-forward part: dense layers and shared experts";
  let description = [{
    Constraints: (C1) gate and up have the same shape [I, H]; (C2) down is [H, I];
    (C3) H is the width of x and of the result; (C4) biases are [I], [I], [H]; (C5) gate and
    up both have a bias or none; (C6) x and result have equal row counts.
  }];
  let arguments = (ins Moe_Rows:$x, FlatSymbolRefAttr:$gate, FlatSymbolRefAttr:$up,
                       FlatSymbolRefAttr:$down,
                       OptionalAttr<FlatSymbolRefAttr>:$gate_bias,
                       OptionalAttr<FlatSymbolRefAttr>:$up_bias,
                       OptionalAttr<FlatSymbolRefAttr>:$down_bias,
                       Moe_ActivationAttr:$activation);
  let results = (outs Moe_Rows:$result);
  let assemblyFormat = [{
    $x `gate` $gate `up` $up `down` $down
    (`gate_bias` $gate_bias^)? (`up_bias` $up_bias^)? (`down_bias` $down_bias^)?
    `activation` $activation attr-dict `:` type($x) `->` type($result)
  }];
}

def Moe_SigmoidGateOp : Moe_ModelOp<"sigmoid_gate", [Pure, AllTypesMatch<["y", "result"]>]> {
  let summary = "y * sigmoid(x · w): the gate of a shared expert";
  let description = [{
    Constraints: (C1) the weight is [1, width of x]; (C2) x and y have equal row counts.
  }];
  let arguments = (ins Moe_Rows:$y, Moe_Rows:$x, FlatSymbolRefAttr:$weight);
  let results = (outs Moe_Rows:$result);
  let assemblyFormat = "$y `by` $x `weight` $weight attr-dict `:` type($y) `,` type($x)";
}

def Moe_ResidualOp : Moe_Op<"residual", [Pure, AllTypesMatch<["residual", "delta", "result"]>]> {
  let summary = "residual + multiplier * delta";
  let arguments = (ins Moe_Rows:$residual, Moe_Rows:$delta,
                       DefaultValuedAttr<F64Attr, "1.0">:$multiplier);
  let results = (outs Moe_Rows:$result);
  let assemblyFormat = "$residual `,` $delta (`multiplier` custom<Real>($multiplier)^)? attr-dict `:` type($residual)";
}

def Moe_SelectRowsOp : Moe_Op<"select_rows", [Pure]> {
  let summary = "the rows whose logits the step wants";
  let description = [{
    Constraints: (C1) the widths of x and result are equal.
  }];
  let arguments = (ins Moe_Rows:$x, Moe_BatchType:$batch);
  let results = (outs Moe_Rows:$result);
  let assemblyFormat = "$x `of` $batch attr-dict `:` type($x) `->` type($result)";
  let hasVerifier = 1;
}

def Moe_SampleOp : Moe_Op<"sample", [Pure]> {
  let summary = "one token per row of logits, by the row's sampling options";
  let description = [{
    Constraints: (C1) logits and result have equal row counts.
  }];
  let arguments = (ins Moe_Rows:$logits, Moe_BatchType:$batch);
  let results = (outs Moe_Ids:$result);
  let assemblyFormat = "$logits `by` $batch attr-dict `:` type($logits) `->` type($result)";
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Fused operations: each is one kernel launch
//===----------------------------------------------------------------------===//

def Moe_ResidualNormOp : Moe_ModelOp<"residual_norm",
    [Pure, AllTypesMatch<["residual", "delta", "sum", "result"]>]> {
  let summary = "sum = residual + multiplier * delta, and the norm of sum";
  let description = [{
    Constraints: (C1) kind is rms or layer; (C2) weight and bias have width entries;
    (C3) only layer takes a bias; (C4) eps > 0.
  }];
  let arguments = (ins Moe_NormKindAttr:$kind, Moe_Rows:$residual, Moe_Rows:$delta,
                       FlatSymbolRefAttr:$weight, OptionalAttr<FlatSymbolRefAttr>:$bias,
                       F64Attr:$eps, DefaultValuedAttr<F64Attr, "1.0">:$multiplier);
  let results = (outs Moe_Rows:$sum, Moe_Rows:$result);
  let assemblyFormat = "custom<NormKind>($kind) $residual `,` $delta `weight` $weight (`bias` $bias^)? `eps` custom<Real>($eps) (`multiplier` custom<Real>($multiplier)^)? attr-dict `:` type($residual)";
}

def Moe_QkvOp : Moe_ModelOp<"qkv", [MemoryEffects<[MemWrite<Moe_Resource>]>]> {
  let summary = "q/k/v projection, q/k norm, rotation and cache write in one";
  let description = [{
    The weight's rows are [query heads | key heads | value heads].
    ```mlir
    %q = moe.qkv %n weight @layers.0.qkv cache @layers.0.kv at %batch heads 4
         rope <dim = 64, base = 1.0e+06> : tensor<?x256xf32> -> tensor<?x256xf32>
    ```
    Constraints: (C1) the weight is [heads * head_dim + kv_heads * (head_dim + value_dim),
    width of x]; (C2) the bias has as many entries as the weight has rows; (C3) the result is
    heads * head_dim wide; (C4) per_head and whole need both norm weights, of head_dim or of
    whole-projection size, other kinds none; (C5) clip >= 0 and eps > 0; (C6) the rotation fits into a head; (C7) the cache is not latent;
    (C8) a temperature_scale other than 0 needs temperature_floor > 0; (C9) x and result have
    equal row counts.
  }];
  let arguments = (ins Moe_Rows:$x, FlatSymbolRefAttr:$weight,
                       OptionalAttr<FlatSymbolRefAttr>:$bias, FlatSymbolRefAttr:$cache,
                       Moe_BatchType:$batch, Moe_Count:$heads,
                       OptionalAttr<Moe_RopeAttr>:$rope,
                       DefaultValuedAttr<F64Attr, "0.0">:$clip,
                       DefaultValuedAttr<Moe_QkNormAttr, "::sluice::moe::QkNorm::None">:$qk_norm,
                       OptionalAttr<FlatSymbolRefAttr>:$q_norm,
                       OptionalAttr<FlatSymbolRefAttr>:$k_norm,
                       DefaultValuedAttr<F64Attr, "1.0e-6">:$eps,
                       DefaultValuedAttr<F64Attr, "0.0">:$temperature_scale,
                       DefaultValuedAttr<F64Attr, "0.0">:$temperature_floor);
  let results = (outs Moe_Rows:$query);
  let assemblyFormat = [{
    $x `weight` $weight (`bias` $bias^)? `cache` $cache `at` $batch `heads` $heads
    (`rope` $rope^)? (`clip` custom<Real>($clip)^)?
    (`qk_norm` $qk_norm^)? (`q_norm` $q_norm^)? (`k_norm` $k_norm^)? (`eps` custom<Real>($eps)^)?
    (`temperature_scale` custom<Real>($temperature_scale)^)?
    (`temperature_floor` custom<Real>($temperature_floor)^)? attr-dict
    `:` type($x) `->` type($query)
  }];
}

def Moe_LatentQueryOp : Moe_ModelOp<"latent_query", [Pure]> {
  let summary = "queries of latent attention, rotated and turned into queries of the latents";
  let description = [{
    Per head [nope | rope] becomes [nope · W^T | rotated rope], so that its product with a cached
    [latent | rope] is the score: the key half of kv_b is absorbed into the query.
    ```mlir
    %l = moe.latent_query %q weight @layers.0.attn.k_up at %batch heads 4
         rope <dim = 64, offset = 128, interleaved, base = 1.0e+04> : tensor<?x768xf32> -> tensor<?x2304xf32>
    ```
    Constraints: (C1) the weight is [heads, latent, nope]; (C2) x is heads * (nope + rope) wide;
    (C3) the result is heads * (latent + rope) wide; (C4) the rotation stays within the rope part;
    (C5) x and result have equal row counts.
  }];
  let arguments = (ins Moe_Rows:$x, FlatSymbolRefAttr:$weight, Moe_BatchType:$batch,
                       Moe_Count:$heads, OptionalAttr<Moe_RopeAttr>:$rope);
  let results = (outs Moe_Rows:$result);
  let assemblyFormat = "$x `weight` $weight `at` $batch `heads` $heads (`rope` $rope^)? attr-dict `:` type($x) `->` type($result)";
}

def Moe_LatentAppendOp : Moe_ModelOp<"latent_append", [MemoryEffects<[MemWrite<Moe_Resource>]>]> {
  let summary = "rms norm of the latent, rotation of the rope part and cache write in one";
  let description = [{
    Each row is [latent | rope]; the rotation's offset counts from the rope part.
    ```mlir
    moe.latent_append %kv norm @layers.0.attn.kv_norm eps 1.0e-06 to @layers.0.kv at %batch
         rope <dim = 64, interleaved, base = 1.0e+04> : tensor<?x576xf32>
    ```
    Constraints: (C1) the cache is latent; (C2) x is as wide as the cache's key; (C3) the norm has
    one entry per entry of the latent; (C4) eps > 0; (C5) the rotation fits into the rope part.
  }];
  let arguments = (ins Moe_Rows:$x, FlatSymbolRefAttr:$norm, F64Attr:$eps,
                       FlatSymbolRefAttr:$cache, Moe_BatchType:$batch,
                       OptionalAttr<Moe_RopeAttr>:$rope);
  let assemblyFormat = "$x `norm` $norm `eps` custom<Real>($eps) `to` $cache `at` $batch (`rope` $rope^)? attr-dict `:` type($x)";
}

def Moe_AbsorbedAttentionOp : Moe_ModelOp<"absorbed_attention",
    [MemoryEffects<[MemRead<Moe_Resource>]>]> {
  let summary = "attention to cached latents, each head's sum of latents turned into its values";
  let description = [{
    All heads attend to the cache's one key [latent | rope] and sum up its latents; the weight, the
    value half of kv_b, turns a head's sum into its output.
    Constraints: (C1) the cache is latent; (C2) the weight is [heads, value, latent]; (C3) query
    width = heads * head_dim of the cache; (C4) result width = heads * value; (C5) query and
    result have equal row counts.
  }];
  let arguments = (ins Moe_Rows:$query, FlatSymbolRefAttr:$cache, FlatSymbolRefAttr:$weight,
                       Moe_BatchType:$batch, Moe_Count:$heads, F64Attr:$scale);
  let results = (outs Moe_Rows:$result);
  let assemblyFormat = "$query `cache` $cache `weight` $weight `at` $batch `heads` $heads `scale` custom<Real>($scale) attr-dict `:` type($query) `->` type($result)";
}

def Moe_RouterOp : Moe_ModelOp<"router", [Pure]> {
  let summary = "router product, choice, weights and expert-major order in one";
  let description = [{
    `placement` is that of the experts whose order this is, as in moe.experts.
    Constraints: (C1) the weight is [experts, width of x]; (C2) bias and correction have
    one entry per expert; (C3) top_k <= experts; (C4) results are top_k wide; (C5) groups
    divides the experts; (C6) the kept groups hold at least top_k experts; (C7) the sparse
    mixer asks for top_k = 2; (C8) x and results have equal row counts; (C9) a placement is one of
    the experts, as in moe.experts C8.
  }];
  let arguments = (ins Moe_Rows:$x, FlatSymbolRefAttr:$weight,
                       OptionalAttr<FlatSymbolRefAttr>:$bias,
                       OptionalAttr<FlatSymbolRefAttr>:$correction, Moe_RoutingAttr:$routing,
                       OptionalAttr<DictionaryAttr>:$placement);
  let results = (outs Moe_ExpertIds:$ids, Moe_ExpertWeights:$weights, Moe_DispatchType:$dispatch);
  let assemblyFormat = "$x `weight` $weight (`bias` $bias^)? `routing` $routing (`correction` $correction^)? (`placement` $placement^)? attr-dict `:` type($x) `->` type($ids) `,` type($weights)";
}

def Moe_ExpertsGateUpOp : Moe_ModelOp<"experts_gate_up", [Pure]> {
  let summary = "gate and up products and activation of every chosen pair, expert-major";
  let description = [{
    The weight is [experts, 2, I, H] (gate, up); the result has one row per pair.
    Constraints: (C1) the weight is [E, 2, I, H] with H the width of x and I that of the
    result; (C2) the bias is [E, 2, I]; (C3) x and weights have equal row counts.
  }];
  let arguments = (ins Moe_Rows:$x, Moe_ExpertWeights:$weights, Moe_DispatchType:$dispatch,
                       FlatSymbolRefAttr:$weight, OptionalAttr<FlatSymbolRefAttr>:$bias,
                       Moe_ActivationAttr:$activation, UnitAttr:$weight_on_input);
  let results = (outs Moe_Rows:$result);
  let assemblyFormat = [{
    $x `,` $weights `by` $dispatch `weight` $weight (`bias` $bias^)? `activation` $activation
    (`weight_on_input` $weight_on_input^)? attr-dict
    `:` type($x) `,` type($weights) `->` type($result)
  }];
}

def Moe_ExpertsDownOp : Moe_ModelOp<"experts_down", [Pure]> {
  let summary = "down product of every pair and the weighted sum per token";
  let description = [{
    Constraints: (C1) the weight is [E, H, I] with I the width of h and H that of the
    result; (C2) the bias is [E, H]; (C3) weights and result have equal row counts.
  }];
  let arguments = (ins Moe_Rows:$h, Moe_ExpertWeights:$weights, Moe_DispatchType:$dispatch,
                       FlatSymbolRefAttr:$weight, OptionalAttr<FlatSymbolRefAttr>:$bias,
                       UnitAttr:$weight_on_input);
  let results = (outs Moe_Rows:$result);
  let assemblyFormat = [{
    $h `,` $weights `by` $dispatch `weight` $weight (`bias` $bias^)?
    (`weight_on_input` $weight_on_input^)? attr-dict
    `:` type($h) `,` type($weights) `->` type($result)
  }];
}

def Moe_FfnGateUpOp : Moe_ModelOp<"ffn_gate_up", [Pure]> {
  let summary = "gate and up products and activation of a dense feed-forward part";
  let description = [{
    Constraints: (C1) the weight is [2, I, H] with H the width of x and I that of the
    result; (C2) the bias is [2, I]; (C3) x and result have equal row counts.
  }];
  let arguments = (ins Moe_Rows:$x, FlatSymbolRefAttr:$weight,
                       OptionalAttr<FlatSymbolRefAttr>:$bias, Moe_ActivationAttr:$activation);
  let results = (outs Moe_Rows:$result);
  let assemblyFormat = "$x `weight` $weight (`bias` $bias^)? `activation` $activation attr-dict `:` type($x) `->` type($result)";
}

//===----------------------------------------------------------------------===//
// Collective operations
//===----------------------------------------------------------------------===//

class Moe_Collective<string mnemonic, list<Trait> traits = []>
    : Moe_Op<mnemonic, traits> {
  let arguments = (ins Moe_Rows:$x, DenseI64ArrayAttr:$ranks);
  let results = (outs Moe_Rows:$result);
  let assemblyFormat = "$x `ranks` $ranks attr-dict `:` type($x) `->` type($result)";
  let hasVerifier = 1;
}

def Moe_AllReduceOp : Moe_Collective<"all_reduce", [AllTypesMatch<["x", "result"]>]> {
  let summary = "element-wise sum over the ranks, on every rank";
  let description = [{
    Constraints: (C1) ranks are distinct and not negative, at least one.
  }];
  let assemblyFormat = "$x `ranks` $ranks attr-dict `:` type($x)";
}

def Moe_AllGatherOp : Moe_Collective<"all_gather"> {
  let summary = "the ranks' rows one after the other, on every rank";
  let description = [{
    Constraints: (C1) ranks are distinct and not negative, at least one; (C2) widths are equal.
  }];
}

def Moe_ReduceScatterOp : Moe_Collective<"reduce_scatter"> {
  let summary = "element-wise sum over the ranks; rank i of the list keeps the i-th part of the rows";
  let description = [{
    Constraints: (C1) ranks are distinct and not negative, at least one; (C2) widths are equal.
  }];
}

//===----------------------------------------------------------------------===//
// Operations of one rank among several
//===----------------------------------------------------------------------===//

def Moe_AssignSlotsOp : Moe_Op<"assign_slots", [Pure]> {
  let summary = "chooses a replica for every (token, choice) pair and orders those of one group by slot";
  let description = [{
    Every rank knows all ids and comes to the same choice: a decode step sends all tokens of an
    expert to one replica so that the largest number of activated experts of a group is small,
    other steps balance tokens over replicas. The result is the slot-major order of the pairs that
    fell to `group`; the others have no row in it.
    ```mlir
    %d = moe.assign_slots %ids group 1 of [array<i64: 0, 1, 2>, array<i64: 3, 2>] : tensor<?x2xi32>
    ```
    Constraints: (C1) slots has one array<i64: ...> per group; (C2) group is one of them; (C3) no
    group holds an expert twice, and every expert from 0 to the largest one has a slot; (C4) there
    are at least as many experts as ids is wide.
  }];
  let arguments = (ins Moe_ExpertIds:$ids, I64Attr:$group, ArrayAttr:$slots);
  let results = (outs Moe_DispatchType:$dispatch);
  let assemblyFormat = "$ids `group` $group `of` $slots attr-dict `:` type($ids)";
  let hasVerifier = 1;
}

#endif // SLUICE_DIALECTS_MOE_MOEOPS_TD
