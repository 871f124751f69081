//===- ModelWeights.cpp - Weights of imported models ------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Names become references to checkpoint tensors here, and every reference is checked: a tensor that
// is missing, has another shape or is stored in a type that we cannot keep is an error now, not
// when half of the artifact is written. The converse is checked at the end: a tensor that no block
// asked for would silently be left out of the computation.
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/ModelBuilder.h"

#include "mlir/IR/Diagnostics.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSwitch.h"

using namespace mlir;

namespace sluice {

/// Diagnostics about tensors before the rest is only counted.
static constexpr int64_t kMaxTensorErrors = 8;
static constexpr size_t kMaxUnusedNamed = 5;

static std::string shapeText(ArrayRef<int64_t> shape) {
  std::string text = "[";
  for (auto [i, extent] : llvm::enumerate(shape))
    text += (i ? ", " : "") + std::to_string(extent);
  return text + "]";
}

Location ModelBuilder::locateFile(StringRef file) {
  std::string path = source.folder() + (file.empty() ? "" : "/" + file.str());
  return FileLineColLoc::get(&context(), path, 0, 0);
}

void ModelBuilder::reportTensor(StringRef file, const std::string &message, StringRef note) {
  if (numErrors++ < kMaxTensorErrors)
    emitError(locateFile(file), message).attachNote() << note;
  else if (numErrors == kMaxTensorErrors + 1)
    emitError(locateFile(""), "more tensors are wrong; only the first ones are reported");
}

Type ModelBuilder::elementType(DataType type) {
  switch (type) {
  case DataType::kF32:
    return builder.getF32Type();
  case DataType::kBF16:
    return builder.getBF16Type();
  case DataType::kF16:
    return builder.getF16Type();
  case DataType::kF8E4M3:
    return Float8E4M3FNType::get(&context());
  case DataType::kF8E8M0:
    return Float8E8M0FNUType::get(&context());
  case DataType::kI8:
    return builder.getI8Type();
  case DataType::kU8:
    return IntegerType::get(&context(), 8, IntegerType::Unsigned);
  case DataType::kI32:
    return builder.getI32Type();
  default:
    return {};
  }
}

Type ModelBuilder::syntheticType() {
  auto nameOf = [&](StringRef key) -> StringRef {
    const json::Value *value = source.config().find({key.data(), key.size()});
    return value && value->stringIf() ? StringRef(*value->stringIf()) : "";
  };
  StringRef name = nameOf("dtype").empty() ? nameOf("torch_dtype") : nameOf("dtype");
  return llvm::StringSwitch<Type>(name)
      .Case("float32", builder.getF32Type())
      .Case("float16", builder.getF16Type())
      .Default(builder.getBF16Type());
}

static std::string namesOf(ArrayRef<DataType> types) {
  std::string text;
  for (size_t i = 0; i < types.size(); ++i)
    text += (i == 0                  ? ""
             : i + 1 == types.size() ? " or "
                                     : ", ") +
            std::string(dataTypeName(types[i]));
  return text;
}

std::optional<CheckpointTensor> ModelBuilder::request(StringRef key, ArrayRef<int64_t> shape,
                                                      ArrayRef<DataType> types) {
  std::string name = "tensor \"" + key.str() + "\"";
  std::optional<size_t> position = source.indexOf({key.data(), key.size()});
  if (!position) {
    bool single = source.files().size() == 1;
    reportTensor(single ? source.files().front() : "",
                 name + " is missing from " +
                     (single ? source.files().front() : "the checkpoint's shards") +
                     "; expected shape " + shapeText(shape),
                 "the checkpoint is incomplete, or config.json describes another model");
    return std::nullopt;
  }
  used[*position] = true;
  const CheckpointTensor &found = source.tensors()[*position];
  const std::string &file = source.files()[found.file];
  if (ArrayRef<int64_t>(found.info->shape) != shape) {
    reportTensor(file,
                 name + " in " + file + " has shape " + shapeText(found.info->shape) +
                     ", expected " + shapeText(shape),
                 "expected shapes follow from the sizes in config.json");
    return std::nullopt;
  }
  if (!llvm::is_contained(types, found.info->dtype)) {
    reportTensor(file,
                 name + " in " + file + " has type " + dataTypeName(found.info->dtype) +
                     ", which the " + family.name.str() +
                     " importer does not read here; expected " + namesOf(types),
                 scheme.isQuantized()
                     ? "quantization_config does not say that this tensor is stored so"
                     : "config.json has no quantization_config; if the checkpoint is quantized, it "
                       "is incomplete");
    return std::nullopt;
  }
  return found;
}

TypedAttr ModelBuilder::leaf(StringRef pattern, int64_t count, ArrayRef<int64_t> shape,
                             ArrayRef<DataType> types) {
  auto [before, after] = pattern.split("{}");
  bool isNumber = llvm::is_contained(types, DataType::kBF16);
  Type element = isNumber ? syntheticType() : elementType(types.front());
  SmallVector<Attribute> files;
  std::optional<CheckpointTensor> first;
  for (int64_t i = 0; i < std::max<int64_t>(count, 1) && !source.isSynthetic(); ++i) {
    std::string key = count > 0 ? (before + Twine(i) + after).str() : pattern.str();
    std::optional<CheckpointTensor> found = request(key, shape, types);
    if (!found)
      continue;
    if (!first) {
      first = found;
      element = elementType(found->info->dtype);
    } else if (found->info->dtype != first->info->dtype) {
      const std::string &file = source.files()[found->file];
      reportTensor(file,
                   "tensor \"" + key + "\" in " + file + " has type " +
                       dataTypeName(found->info->dtype) + ", but \"" + first->info->name +
                       "\" has type " + dataTypeName(first->info->dtype),
                   "the experts of a layer are stored in one type");
    }
    Attribute file = builder.getStringAttr(source.files()[found->file]);
    if (!llvm::is_contained(files, file))
      files.push_back(file);
  }
  if (files.empty())
    files.push_back(builder.getStringAttr(""));
  if (count == 0)
    return moe::SourceAttr::get(&context(), builder.getStringAttr(pattern),
                                cast<StringAttr>(files.front()),
                                RankedTensorType::get(shape, element));
  SmallVector<int64_t> stacked = {count};
  stacked.append(shape.begin(), shape.end());
  return moe::StackAttr::get(&context(), builder.getStringAttr(pattern), count,
                             builder.getArrayAttr(files), RankedTensorType::get(stacked, element));
}

TypedAttr ModelBuilder::numbers(StringRef pattern, int64_t count, ArrayRef<int64_t> shape) {
  StringRef module = pattern;
  const QuantGroup *group = nullptr;
  if (scheme.isQuantized() && shape.size() == 2 && module.consume_back(".weight") &&
      succeeded(findStorage(module, count, shape, group)) && group)
    return quantizedMatrix(*group, module, count, shape[0], shape[1]);
  return leaf(pattern, count, shape, {DataType::kF32, DataType::kBF16, DataType::kF16});
}

TypedAttr ModelBuilder::tensor(StringRef key, ArrayRef<int64_t> shape) {
  return numbers(keyPrefix + key.str(), /*count=*/0, shape);
}

TypedAttr ModelBuilder::stackedTensors(StringRef pattern, int64_t count, ArrayRef<int64_t> shape) {
  return numbers(keyPrefix + pattern.str(), count, shape);
}

FlatSymbolRefAttr ModelBuilder::define(StringRef symbol, TypedAttr value) {
  Location loc = locate(symbol);
  auto op = moe::WeightOp::create(declarations, loc, symbolPrefix + symbol.str(),
                                  moe::getWeightType(value), value);
  return FlatSymbolRefAttr::get(symbols.insert(op));
}

FlatSymbolRefAttr ModelBuilder::weight(StringRef symbol, StringRef key, ArrayRef<int64_t> shape) {
  return define(symbol, tensor(key, shape));
}

TypedAttr ModelBuilder::slice(TypedAttr weight, int64_t axis, int64_t begin, int64_t size,
                              int64_t stride) {
  return moe::SliceAttr::get(weight.getContext(), weight, axis, begin, size, stride);
}

TypedAttr ModelBuilder::transpose(TypedAttr weight, ArrayRef<int64_t> permutation) {
  MLIRContext *context = weight.getContext();
  return moe::TransposeAttr::get(context, weight, DenseI64ArrayAttr::get(context, permutation));
}

TypedAttr ModelBuilder::reshape(TypedAttr weight, ArrayRef<int64_t> shape) {
  Type element = moe::getWeightType(weight).getElementType();
  return moe::ReshapeAttr::get(weight.getContext(), weight, RankedTensorType::get(shape, element));
}

void ModelBuilder::reportUnused() {
  std::vector<StringRef> unused;
  for (auto [tensor, wasUsed] : llvm::zip(source.tensors(), used)) {
    if (wasUsed)
      continue;
    StringRef name = tensor.info->name;
    auto ignored = llvm::find_if(ignoredTensors, [&](const IgnoredTensors &entry) {
      return matchesGlob(entry.pattern, name);
    });
    if (ignored == ignoredTensors.end())
      unused.push_back(name);
    else
      ++ignored->count;
  }
  for (const IgnoredTensors &entry : ignoredTensors)
    if (entry.count > 0 && !entry.what.empty())
      emitRemark(locateFile(""), std::to_string(entry.count) + " tensors \"" + entry.pattern +
                                     "\" are left out: " + entry.what);
  if (unused.empty())
    return;
  std::string names;
  for (size_t i = 0; i < unused.size() && i < kMaxUnusedNamed; ++i)
    names += (i ? ", \"" : "\"") + unused[i].str() + "\"";
  if (unused.size() > kMaxUnusedNamed)
    names += " and " + std::to_string(unused.size() - kMaxUnusedNamed) + " more";
  ++numErrors;
  emitError(locateFile(""), "the checkpoint holds " + std::to_string(unused.size()) +
                                (unused.size() == 1 ? " tensor" : " tensors") + " that the " +
                                family.name.str() + " importer does not use: " + names)
          .attachNote()
      << "leaving a weight out would compute another model; check config.json (num_hidden_layers, "
         "tie_word_embeddings, ...), or report the model family";
}

} // namespace sluice
