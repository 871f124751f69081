//===- AttentionRecipes.cpp - Launches of attention -------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Attention kernels state how large their cache is; the first one that takes a cache declares it.
//
//===----------------------------------------------------------------------===//
#include "passes/Lowering/StepReader.h"

#include "llvm/ADT/STLExtras.h"

using namespace mlir;

namespace sluice {

FailureOr<StepReader::Caches> StepReader::cachesOf(Operation *op, moe::KvCacheOp source,
                                                   const abi::FamilyParams &params) {
  auto bytes = abi::familyArgBytes(params, context.largest);
  if (!bytes.isOk())
    return op->emitOpError("cannot be launched: ") << bytes.status().message();
  auto declare = [&](StringRef leaf, uint64_t size) {
    std::string name = (source.getSymName() + "." + leaf).str();
    if (!rankSymbols.lookup(name)) {
      OpBuilder builder = before<plan::IoOp>();
      rankSymbols.insert(
          plan::CacheOp::create(builder, source.getLoc(), name, size, IntegerAttr()));
    }
    return RecipeArg{RecipeArg::Cache, 0, StringAttr::get(func.getContext(), name), 0};
  };
  Caches caches;
  for (auto [spec, size] : llvm::zip(abi::familyArgs(params), *bytes)) {
    StringRef name = spec.name;
    if (name == "k_cache")
      caches.keys = declare("keys", size);
    else if (name == "v_cache")
      caches.values = declare("values", size);
    else if (name == "cache")
      caches.latents = declare("latents", size);
  }
  return caches;
}

LogicalResult StepReader::lower(moe::QkvOp op) {
  auto source = context.symbols.lookup<moe::KvCacheOp>(op.getCacheAttr().getAttr());
  FailureOr<Product> product = productOf(op, op.getWeightAttr(), op.getBiasAttr());
  FailureOr<std::string> cacheType = formatOf(op, source.getType(), "a cache");
  auto table = rope(op, op.getRopeAttr());
  if (failed(product) || failed(cacheType) || failed(table))
    return failure();
  FailureOr<RecipeArg> qNorm = vector(op, op.getQNormAttr()), kNorm = vector(op, op.getKNormAttr());
  if (failed(qNorm) || failed(kNorm))
    return failure();

  abi::QkvParams params;
  params.k = widthOf(op.getX());
  params.qHeads = op.getHeads();
  params.kvHeads = source.getKvHeads();
  params.headDim = source.getHeadDim();
  params.valueDim = source.getValueDim();
  params.format = product->format;
  params.cacheType = *cacheType;
  params.bias = product->hasBias;
  params.clip = toDouble(op.getClip());
  params.qkNorm = convertEnum<abi::QkNorm>(op.getQkNorm());
  params.eps = toDouble(op.getEps());
  params.rope = table->params;
  params.tempScale = toDouble(op.getTemperatureScale());
  params.tempFloor = toDouble(op.getTemperatureFloor());
  FailureOr<Caches> caches = cachesOf(op, source, params);
  if (failed(caches))
    return failure();
  StringRef label = op.getWeight();
  FailureOr<RecipeArg> x = productInput(op, op.getX(), product->format, label);
  if (failed(x))
    return failure();
  return launch(op, params, label,
                {{"x", *x},
                 {"weight", product->weight},
                 {"bias", product->bias},
                 {"q_norm", *qNorm},
                 {"k_norm", *kNorm},
                 {"rope", table->frequencies},
                 {"q", define(op.getQuery(), label, "q")},
                 {"k_cache", caches->keys},
                 {"v_cache", caches->values}});
}

LogicalResult StepReader::lower(moe::AttentionOp op) {
  auto source = context.symbols.lookup<moe::KvCacheOp>(op.getCacheAttr().getAttr());
  FailureOr<std::string> cacheType = formatOf(op, source.getType(), "a cache");
  FailureOr<RecipeArg> sinks = vector(op, op.getSinksAttr());
  if (failed(cacheType) || failed(sinks))
    return failure();
  abi::AttentionParams params;
  params.qHeads = op.getHeads();
  params.kvHeads = source.getKvHeads();
  params.headDim = source.getHeadDim();
  params.valueDim = source.getValueDim();
  params.cacheType = *cacheType;
  params.scale = toDouble(op.getScale());
  params.softcap = toDouble(op.getSoftcap());
  params.window = op.getWindow();
  params.chunk = op.getChunk();
  params.sinks = op.getSinksAttr() != nullptr;
  FailureOr<Caches> caches = cachesOf(op, source, params);
  if (failed(caches))
    return failure();
  std::string label = parentOf(op.getCache()) + "attention";
  return launch(op, params, label,
                {{"q", use(op.getQuery())},
                 {"k_cache", caches->keys},
                 {"v_cache", caches->values},
                 {"sinks", *sinks},
                 {"out", define(op.getResult(), label, "out")}});
}

LogicalResult StepReader::lower(moe::TemperatureOp op) {
  abi::TemperatureParams params;
  params.width = widthOf(op.getX());
  params.scale = toDouble(op.getScale());
  params.floor = toDouble(op.getFloorScale());
  params.offset = op.getOffset();
  std::string label = labelAfter(op.getX(), "temperature");
  return launch(op, params, label,
                {{"x", use(op.getX())}, {"out", define(op.getResult(), label, "out")}});
}

LogicalResult StepReader::lower(moe::LatentQueryOp op) {
  FailureOr<Product> product = productOf(op, op.getWeightAttr(), {});
  FailureOr<Rope> table = rope(op, op.getRopeAttr());
  if (failed(product) || failed(table))
    return failure();
  ArrayRef<int64_t> shape = shapeOf(op.getWeightAttr());
  abi::LatentQueryParams params;
  params.heads = op.getHeads();
  params.latent = shape[1];
  params.nope = shape[2];
  params.rotary = widthOf(op.getX()) / params.heads - params.nope;
  params.format = product->format;
  params.rope = table->params;
  StringRef label = op.getWeight();
  return launch(op, params, label,
                {{"x", use(op.getX())},
                 {"weight", product->weight},
                 {"rope", table->frequencies},
                 {"out", define(op.getResult(), label, "out")}});
}

LogicalResult StepReader::lower(moe::LatentAppendOp op) {
  auto source = context.symbols.lookup<moe::KvCacheOp>(op.getCacheAttr().getAttr());
  FailureOr<std::string> cacheType = formatOf(op, source.getType(), "a cache");
  FailureOr<RecipeArg> norm = vector(op, op.getNormAttr());
  FailureOr<Rope> table = rope(op, op.getRopeAttr());
  if (failed(cacheType) || failed(norm) || failed(table))
    return failure();
  abi::LatentAppendParams params;
  params.latent = shapeOf(op.getNormAttr())[0];
  params.rotary = widthOf(op.getX()) - params.latent;
  params.cacheType = *cacheType;
  params.eps = toDouble(op.getEps());
  params.rope = table->params;
  FailureOr<Caches> caches = cachesOf(op, source, params);
  if (failed(caches))
    return failure();
  return launch(op, params, op.getNorm(),
                {{"x", use(op.getX())},
                 {"norm", *norm},
                 {"rope", table->frequencies},
                 {"cache", caches->latents}});
}

LogicalResult StepReader::lower(moe::AbsorbedAttentionOp op) {
  auto source = context.symbols.lookup<moe::KvCacheOp>(op.getCacheAttr().getAttr());
  FailureOr<std::string> cacheType = formatOf(op, source.getType(), "a cache");
  FailureOr<Product> product = productOf(op, op.getWeightAttr(), {});
  if (failed(cacheType) || failed(product))
    return failure();
  ArrayRef<int64_t> shape = shapeOf(op.getWeightAttr());
  abi::AbsorbedAttentionParams params;
  params.heads = op.getHeads();
  params.latent = shape[2];
  params.rotary = source.getHeadDim() - params.latent;
  params.valueDim = shape[1];
  params.format = product->format;
  params.cacheType = *cacheType;
  params.scale = toDouble(op.getScale());
  FailureOr<Caches> caches = cachesOf(op, source, params);
  if (failed(caches))
    return failure();
  std::string label = parentOf(op.getCache()) + "attention";
  return launch(op, params, label,
                {{"q", use(op.getQuery())},
                 {"cache", caches->latents},
                 {"weight", product->weight},
                 {"out", define(op.getResult(), label, "out")}});
}

} // namespace sluice
