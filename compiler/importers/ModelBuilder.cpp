//===- ModelBuilder.cpp - Building blocks of imported models ----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Beginning and end of a model module, and the blocks between. Weights and their checks are in
// ModelWeights.cpp.
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/ModelBuilder.h"

#include "mlir/IR/Diagnostics.h"
#include "llvm/ADT/StringExtras.h"

#include <cmath>

using namespace mlir;

namespace sluice {

ModelBuilder::ModelBuilder(const Checkpoint &checkpoint, const ImportOptions &options,
                           const ModelFamily &family, MLIRContext &context)
    : source(checkpoint), options(options), family(family),
      reader(checkpoint.config(), "config.json"),
      module(ModuleOp::create(UnknownLoc::get(&context))), builder(&context),
      declarations(module->getBodyRegion()), symbols(*module), used(checkpoint.tensors().size()) {}

//===----------------------------------------------------------------------===//
// Beginning
//===----------------------------------------------------------------------===//

/// Where `key` stands in the configuration's text; its first line when it does not.
static Location locateInText(MLIRContext &context, const std::string &file, StringRef text,
                             StringRef key) {
  size_t position = key.empty() ? StringRef::npos : text.find(("\"" + key + "\"").str());
  if (position == StringRef::npos)
    return FileLineColLoc::get(&context, file, 1, 1);
  StringRef before = text.take_front(position);
  size_t lineStart = before.rfind('\n');
  unsigned column = position - (lineStart == StringRef::npos ? 0 : lineStart + 1) + 1;
  return FileLineColLoc::get(&context, file, before.count('\n') + 1, column);
}

void ModelBuilder::reportConfig() {
  for (const ConfigProblem &problem : reader.problems()) {
    // Messages begin with the name of their document, so problems of others say so themselves.
    bool own = StringRef(problem.message).starts_with("config.json:");
    Location loc =
        own ? locateInText(context(), source.configPath(), source.configText(), problem.key)
            : Location(FileLineColLoc::get(&context(), source.folder(), 1, 1));
    emitError(loc, problem.message);
  }
}

LogicalResult ModelBuilder::begin(const DecoderConfig &config, int64_t experts, int64_t chosen,
                                  SpecialTokens specialTokens) {
  scheme = QuantScheme::read(reader, source);
  reader.finish(family.name);
  if (!reader.failed() && chosen > experts)
    reader.error("num_experts_per_tok", std::to_string(chosen) + " exceeds the number of experts " +
                                            std::to_string(experts));
  if (reader.failed()) {
    reportConfig();
    return failure();
  }
  sizes = config;
  numExperts = experts;
  topK = chosen;
  tokens = std::move(specialTokens);
  for (const auto &[pattern, what] : scheme.ignoredTensors)
    ignoreTensors(pattern, what);
  for (const std::string &note : scheme.notes)
    emitRemark(locateFile(""), note);
  MLIRContext *ctx = &context();
  Type ids = RankedTensorType::get({ShapedType::kDynamic}, builder.getI32Type());
  auto type = FunctionType::get(ctx, {ids, moe::BatchType::get(ctx)}, {rows(sizes.vocabSize), ids});
  OpBuilder atEnd = OpBuilder::atBlockEnd(module->getBody());
  step = func::FuncOp::create(atEnd, locate("step"), "step", type);
  builder.setInsertionPointToEnd(step.addEntryBlock());
  declarations.setInsertionPoint(step);
  return success();
}

void ModelBuilder::enterLayer(int64_t layer, StringRef prefix) {
  symbolPrefix = "layers." + std::to_string(layer) + ".";
  keyPrefix = prefix.str();
}

void ModelBuilder::leaveLayers() {
  symbolPrefix.clear();
  keyPrefix.clear();
}

//===----------------------------------------------------------------------===//
// Blocks
//===----------------------------------------------------------------------===//

Location ModelBuilder::locate(StringRef part) {
  return NameLoc::get(builder.getStringAttr(symbolPrefix + part));
}

RankedTensorType ModelBuilder::rows(int64_t width) {
  return RankedTensorType::get({ShapedType::kDynamic, width}, builder.getF32Type());
}

RankedTensorType ModelBuilder::weightType(FlatSymbolRefAttr weight) {
  return cast<RankedTensorType>(symbols.lookup<moe::WeightOp>(weight.getAttr()).getType());
}

static Location nameOf(FlatSymbolRefAttr weight) { return NameLoc::get(weight.getAttr()); }

Value ModelBuilder::embedding(FlatSymbolRefAttr table, double multiplier) {
  return moe::EmbeddingOp::create(builder, nameOf(table), rows(weightType(table).getDimSize(1)),
                                  tokenIds(), table, builder.getF64FloatAttr(multiplier));
}

Value ModelBuilder::norm(Value x, const NormSpec &spec) {
  return moe::NormOp::create(
      builder, nameOf(spec.weight), x.getType(), moe::NormKindAttr::get(&context(), spec.kind), x,
      spec.weight, spec.bias, builder.getF64FloatAttr(spec.eps), builder.getI64IntegerAttr(1));
}

Value ModelBuilder::rmsNorm(Value x, FlatSymbolRefAttr weight, double eps, int64_t groups) {
  return moe::NormOp::create(builder, nameOf(weight), x.getType(),
                             moe::NormKindAttr::get(&context(), moe::NormKind::Rms), x, weight,
                             /*bias=*/FlatSymbolRefAttr(), builder.getF64FloatAttr(eps),
                             builder.getI64IntegerAttr(groups));
}

Value ModelBuilder::l2Norm(Value x, double eps, int64_t groups) {
  FlatSymbolRefAttr none;
  return moe::NormOp::create(builder, locate("l2_norm"), x.getType(),
                             moe::NormKindAttr::get(&context(), moe::NormKind::L2), x, none, none,
                             builder.getF64FloatAttr(eps), builder.getI64IntegerAttr(groups));
}

Value ModelBuilder::linear(Value x, FlatSymbolRefAttr weight, FlatSymbolRefAttr bias,
                           double scale) {
  return moe::LinearOp::create(builder, nameOf(weight), rows(weightType(weight).getDimSize(0)), x,
                               weight, bias, builder.getF64FloatAttr(scale),
                               builder.getF64FloatAttr(0.0));
}

Value ModelBuilder::clamp(Value x, double limit) {
  return moe::ClampOp::create(builder, locate("clamp"), x.getType(), x,
                              builder.getF64FloatAttr(limit));
}

Value ModelBuilder::rope(Value x, int64_t heads, moe::RopeAttr rope) {
  return moe::RopeOp::create(builder, locate("attn.rope"), x.getType(), x, batch(),
                             builder.getI64IntegerAttr(heads), rope);
}

Value ModelBuilder::temperature(Value x, double scale, double floorScale, int64_t offset) {
  return moe::TemperatureOp::create(
      builder, locate("attn.temperature"), x.getType(), x, batch(), builder.getF64FloatAttr(scale),
      builder.getF64FloatAttr(floorScale), builder.getI64IntegerAttr(offset));
}

moe::KvCacheOp ModelBuilder::declareCache(int64_t heads, int64_t headDim, int64_t valueDim,
                                          bool latent) {
  auto i64 = [&](int64_t v) { return builder.getI64IntegerAttr(v); };
  Type type = options.kvType == "bf16"  ? Type(builder.getBF16Type())
              : options.kvType == "f16" ? Type(builder.getF16Type())
                                        : Type(builder.getF32Type());
  auto cache = moe::KvCacheOp::create(declarations, locate("attn"),
                                      builder.getStringAttr(symbolPrefix + "kv"), i64(heads),
                                      i64(headDim), i64(valueDim), TypeAttr::get(type),
                                      latent ? builder.getUnitAttr() : UnitAttr());
  symbols.insert(cache);
  return cache;
}

Value ModelBuilder::attention(Value query, Value key, Value value, const AttentionSpec &spec) {
  Location loc = locate("attn");
  auto cache = FlatSymbolRefAttr::get(
      declareCache(spec.kvHeads, spec.headDim, spec.valueDim, /*latent=*/false).getSymNameAttr());
  moe::CacheAppendOp::create(builder, loc, key, value, cache, batch());
  return moe::AttentionOp::create(
      builder, loc, rows(spec.heads * spec.valueDim), query, cache, batch(),
      builder.getI64IntegerAttr(spec.heads), builder.getF64FloatAttr(spec.scale), spec.sinks,
      builder.getI64IntegerAttr(spec.window), builder.getI64IntegerAttr(spec.chunk),
      /*softcap=*/builder.getF64FloatAttr(0.0));
}

Value ModelBuilder::latentAttention(Value query, Value latent, Value rotated, FlatSymbolRefAttr kvB,
                                    const LatentAttentionSpec &spec) {
  Location loc = locate("attn");
  auto cache = FlatSymbolRefAttr::get(
      declareCache(1, spec.latentDim + spec.ropeDim, 0, /*latent=*/true).getSymNameAttr());
  moe::CacheAppendOp::create(builder, loc, latent, rotated, cache, batch());
  return moe::LatentAttentionOp::create(
      builder, loc, rows(spec.heads * spec.valueDim), query, cache, kvB, batch(),
      builder.getI64IntegerAttr(spec.heads), builder.getI64IntegerAttr(spec.nopeDim),
      builder.getI64IntegerAttr(spec.valueDim), builder.getF64FloatAttr(spec.scale));
}

Value ModelBuilder::residual(Value residual, Value delta, double multiplier) {
  return moe::ResidualOp::create(builder, locate("residual"), residual.getType(), residual, delta,
                                 builder.getF64FloatAttr(multiplier));
}

std::pair<Value, Value> ModelBuilder::route(Value logits, moe::RoutingAttr routing,
                                            FlatSymbolRefAttr correction) {
  int64_t shape[] = {ShapedType::kDynamic, routing.getTopK()};
  auto op = moe::RouteOp::create(
      builder, locate("router"), RankedTensorType::get(shape, builder.getI32Type()),
      RankedTensorType::get(shape, builder.getF32Type()), logits, routing, correction);
  return {op.getIds(), op.getWeights()};
}

Value ModelBuilder::experts(Value x, std::pair<Value, Value> routed, const GatedWeights &weights,
                            moe::ActivationAttr activation, bool weightOnInput) {
  return moe::ExpertsOp::create(
      builder, locate("experts"), rows(weightType(weights.down).getDimSize(1)), x, routed.first,
      routed.second, weights.gate, weights.up, weights.down, weights.gateBias, weights.upBias,
      weights.downBias, activation, weightOnInput ? builder.getUnitAttr() : UnitAttr(),
      /*placement=*/DictionaryAttr());
}

Value ModelBuilder::ffn(Value x, const GatedWeights &weights, moe::ActivationAttr activation) {
  return moe::FfnOp::create(
      builder, nameOf(weights.gate), rows(weightType(weights.down).getDimSize(0)), x, weights.gate,
      weights.up, weights.down, weights.gateBias, weights.upBias, weights.downBias, activation);
}

Value ModelBuilder::sigmoidGate(Value y, Value x, FlatSymbolRefAttr weight) {
  return moe::SigmoidGateOp::create(builder, nameOf(weight), y.getType(), y, x, weight);
}

//===----------------------------------------------------------------------===//
// End
//===----------------------------------------------------------------------===//

LogicalResult ModelBuilder::finish(Value hidden, const HeadSpec &head) {
  Value last =
      moe::SelectRowsOp::create(builder, locate("select_rows"), hidden.getType(), hidden, batch());
  Value logits = linear(norm(last, head.norm), head.weight, head.bias, head.scale);
  Value ids =
      moe::SampleOp::create(builder, locate("sample"), tokenIds().getType(), logits, batch());
  func::ReturnOp::create(builder, locate("step"), ValueRange{logits, ids});

  reportUnused();
  if (numErrors > 0)
    return failure();
  (*module)->setAttr(moe::MoeDialect::getTargetAttrName(), builder.getStringAttr(options.target));
  (*module)->setAttr(moe::MoeDialect::getPhaseAttrName(), builder.getStringAttr("input"));
  setModelInfo();
  return setLimits();
}

void ModelBuilder::setModelInfo() {
  auto elements = [&](FlatSymbolRefAttr weight) {
    return weight ? weightType(weight).getNumElements() : 0;
  };
  int64_t total = 0;
  for (auto weight : module->getOps<moe::WeightOp>())
    total += cast<RankedTensorType>(weight.getType()).getNumElements();
  int64_t active = total;
  step.walk([&](moe::ExpertsOp op) {
    int64_t experts = weightType(op.getGateAttr()).getDimSize(0);
    int64_t chosen = cast<RankedTensorType>(op.getIds().getType()).getDimSize(1);
    int64_t all = 0;
    for (FlatSymbolRefAttr part : {op.getGateAttr(), op.getUpAttr(), op.getDownAttr(),
                                   op.getGateBiasAttr(), op.getUpBiasAttr(), op.getDownBiasAttr()})
      all += elements(part);
    active -= all / experts * (experts - chosen);
  });

  auto entry = [&](StringRef name, int64_t value) {
    return builder.getNamedAttr(name, builder.getI64IntegerAttr(value));
  };
  NamedAttribute entries[] = {
      builder.getNamedAttr("name", builder.getStringAttr(source.name())),
      builder.getNamedAttr("family", builder.getStringAttr(family.name)),
      entry("vocab_size", sizes.vocabSize),
      entry("hidden_size", sizes.hiddenSize),
      entry("num_layers", sizes.numLayers),
      entry("num_experts", numExperts),
      entry("top_k", topK),
      entry("max_position", sizes.maxPosition),
      builder.getNamedAttr("eos_token_ids", builder.getDenseI64ArrayAttr(tokens.eos)),
      entry("bos_token_id", tokens.bos),
      entry("total_parameters", total),
      entry("active_parameters", active)};
  (*module)->setAttr(moe::MoeDialect::getModelAttrName(), builder.getDictionaryAttr(entries));
}

LogicalResult ModelBuilder::setLimits() {
  bool ok = true;
  Location loc = UnknownLoc::get(&context());
  // Plans store limits in 32 bits.
  auto choose = [&](StringRef name, int64_t asked, int64_t fallback, int64_t most,
                    const Twine &why) {
    if (asked == 0)
      return std::min(fallback, most);
    if (asked < 1 || asked > most) {
      emitError(loc) << name << " = " << asked << " is outside 1 to " << most << why;
      ok = false;
      return int64_t(1);
    }
    return asked;
  };
  int64_t tokens = choose("max-batch-tokens", options.maxBatchTokens, 512, 1 << 20, "");
  int64_t seqs =
      choose("max-seqs", options.maxSeqs, 16, tokens, ", the tokens of a step (max-batch-tokens)");
  int64_t seqLen = choose("max-seq-len", options.maxSeqLen, 4096, sizes.maxPosition,
                          ", the positions the model was trained for (max_position_embeddings)");
  int64_t logitRows = choose("max-logit-rows", options.maxLogitRows, std::max<int64_t>(seqs, 64),
                             tokens, ", the tokens of a step (max-batch-tokens)");
  int64_t pageSize = choose("page-size", options.pageSize, 16, 1 << 16, "");

  int64_t pageBytes = 0;
  for (auto cache : module->getOps<moe::KvCacheOp>())
    pageBytes += pageSize * cache.getKvHeads() * (cache.getHeadDim() + cache.getValueDim()) *
                 (cache.getType().getIntOrFloatBitWidth() / 8);
  int64_t perSeq = (seqLen + pageSize - 1) / pageSize;
  int64_t affordable = kDefaultKvBytes / std::max<int64_t>(pageBytes, 1);
  int64_t pages = choose("num-pages", options.numPages,
                         std::max(perSeq, std::min(seqs * perSeq, affordable)), INT32_MAX, "");
  if (ok && pages < perSeq) {
    emitError(loc) << "num-pages = " << pages << " of " << pageSize
                   << " tokens hold no sequence of max-seq-len = " << seqLen << "; give at least "
                   << perSeq;
    ok = false;
  }
  if (!ok)
    return failure();
  auto entry = [&](StringRef name, int64_t value) {
    return builder.getNamedAttr(name, builder.getI64IntegerAttr(value));
  };
  (*module)->setAttr(
      moe::MoeDialect::getLimitsAttrName(),
      builder.getDictionaryAttr({entry("max_batch_tokens", tokens), entry("max_seqs", seqs),
                                 entry("max_seq_len", seqLen), entry("max_logit_rows", logitRows),
                                 entry("page_size", pageSize), entry("num_pages", pages)}));
  return success();
}

} // namespace sluice
