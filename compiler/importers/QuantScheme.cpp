//===- QuantScheme.cpp - How a checkpoint says it is quantised --------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// One function per quant_method. Sources: the quantizer configurations of Hugging Face transformers
// (utils/quantization_config.py), compressed-tensors (quant_args.py, quant_scheme.py), AutoAWQ,
// GPTQModel, and NVIDIA ModelOpt's export; where their loaders disagree about defaults, a missing
// key is refused.
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/QuantScheme.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/Regex.h"

#include <algorithm>

using llvm::StringRef;

namespace sluice {
namespace {

constexpr const char *kConfigKey = "quantization_config";

constexpr const char *kActivations =
    "scales of quantised activations; products take float32 activations";
constexpr const char *kCacheScales =
    "scales of a quantised KV cache; --kv-dtype chooses the type of the cache";

/// Whether an entry of a list of modules means `module`, a module above it, or its last parts.
bool names(StringRef entry, StringRef module) {
  if (entry.consume_front("re:")) {
    // Python's re.match: from the beginning, not to the end. What this library of POSIX expressions
    // cannot parse means nothing to a list that only serves to find contradictions.
    llvm::Regex regex(("^(" + llvm::Twine(entry) + ")").str());
    return regex.isValid() && regex.match(module);
  }
  for (StringRef part = module; !part.empty(); part = part.rsplit('.').first) {
    if (matchesGlob(entry, part) || matchesGlob(("*." + llvm::Twine(entry)).str(), part))
      return true;
    if (!part.contains('.'))
      break;
  }
  return false;
}

/// Reads one quantization_config.
class SchemeReader {
public:
  SchemeReader(ConfigReader config, QuantScheme &scheme) : config(config), scheme(scheme) {}

  void read(const std::string &method) {
    scheme.method = method;
    if (method == "fp8")
      readFp8();
    else if (method == "compressed-tensors")
      readCompressedTensors();
    else if (method == "awq")
      readAwq();
    else if (method == "gptq")
      readGptq();
    else if (method == "modelopt")
      readModelOpt();
    else if (method == "mxfp4")
      readExcluded("modules_to_not_convert");
    else {
      std::string known;
      for (const QuantFormatInfo &info : allQuantFormats())
        known += (known.empty() ? "" : ", ") + std::string(info.method);
      config.error("quant_method", "\"" + method + "\" is not supported; supported are " + known);
      config.ignoreAll();
    }
  }

private:
  QuantGroup &addGroup(QuantStorage storage) {
    scheme.groups.emplace_back();
    scheme.groups.back().storage = storage;
    return scheme.groups.back();
  }

  void readExcluded(const char *key) {
    if (!config.has(key))
      return config.ignore(key);
    for (std::string &entry : config.getStrings(key))
      scheme.excluded.push_back(std::move(entry));
  }

  /// Refuses every value of a string key but the given ones; the first is meant by its absence.
  std::string require(ConfigReader &from, const char *key,
                      std::initializer_list<const char *> values) {
    std::string value = from.getStringOr(key, *values.begin()), known;
    for (const char *each : values) {
      if (value == each)
        return value;
      known += (known.empty() ? "\"" : ", \"") + std::string(each) + "\"";
    }
    from.error(key, "\"" + value + "\" is not supported; expected " + known);
    return *values.begin();
  }
  void requireBits(ConfigReader &from, const char *key, std::initializer_list<int64_t> values,
                   int &out) {
    int64_t bits = from.getInt(key);
    if (llvm::is_contained(values, bits))
      out = int(bits);
    else if (!from.failed())
      from.error(key, std::to_string(bits) + " bits are not supported here; expected " +
                          std::to_string(*values.begin()) +
                          (values.size() > 1 ? " or " + std::to_string(values.begin()[1]) : ""));
  }
  /// The columns of a group; -1 means whole rows.
  int64_t readGroupSize(ConfigReader &from, const char *key) {
    int64_t size = from.getInt(key);
    if (size == -1)
      return 0;
    if (size < 1 || size > INT32_MAX) {
      from.error(key, std::to_string(size) + " is neither a number of columns nor -1");
      return 0;
    }
    return size;
  }
  std::pair<int64_t, int64_t> readBlock(ConfigReader &from, const char *key) {
    std::vector<int64_t> block = from.getInts(key);
    if (block.size() == 2 && block[0] > 0 && block[1] > 0)
      return {block[0], block[1]};
    if (!from.failed())
      from.error(key, "expected two positive numbers, of rows and of columns");
    return {1, 1};
  }
  /// A quantised KV cache changes nothing about the weights.
  void noteKvCache(const char *key) {
    if (config.has(key)) {
      const json::Value *value = config.value().find(key);
      bool none = value->stringIf() && (*value->stringIf() == "" || *value->stringIf() == "none");
      if (!none) {
        scheme.notes.push_back(std::string(key) + " is left out: the KV cache has the type that "
                                                  "--kv-dtype asks for");
        for (const char *pattern : {"*.k_scale", "*.v_scale", "*.q_scale", "*.prob_output_scale"})
          scheme.ignoredTensors.push_back({pattern, kCacheScales});
      }
    }
    config.ignore(key);
  }

  void ignoreActivationScales() {
    for (const char *pattern : {"*.input_scale", "*.activation_scale", "*.input_global_scale"})
      scheme.ignoredTensors.push_back({pattern, kActivations});
  }

  void readFp8() {
    require(config, "fmt", {"e4m3", "float8_e4m3fn"});
    require(config, "scale_fmt", {"float", "ue8m0"});
    if (require(config, "activation_scheme", {"dynamic", "static"}) == "static")
      ignoreActivationScales();
    QuantGroup &group = addGroup(QuantStorage::kFloat8);
    if (config.has("weight_block_size"))
      std::tie(group.blockRows, group.groupColumns) = readBlock(config, "weight_block_size");
    readExcluded("modules_to_not_convert");
    readExcluded("ignored_layers");
  }

  void readAwq() {
    QuantGroup &group = addGroup(QuantStorage::kAwq);
    requireBits(config, "bits", {4}, group.bits);
    group.groupColumns = readGroupSize(config, "group_size");
    group.symmetric = false;
    require(config, "version", {"gemm"});
    if (!config.getBoolOr("zero_point", true))
      config.error("zero_point", "false is not supported; expected weights with zero points");
    readExcluded("modules_to_not_convert");
    // How a loader executes it, and whether it fuses modules after loading.
    for (const char *key : {"backend", "do_fuse", "fuse_max_seq_len", "modules_to_fuse",
                            "exllama_config", "quant_method"})
      config.ignore(key);
  }

  void readGptq() {
    QuantGroup &group = addGroup(QuantStorage::kGptq);
    requireBits(config, "bits", {4}, group.bits);
    group.groupColumns = readGroupSize(config, "group_size");
    group.symmetric = config.getBoolOr("sym", true);
    group.zerosMinusOne = require(config, "checkpoint_format", {"gptq", "gptq_v2"}) == "gptq";
    // An order of activations permutes the columns of groups; g_idx shows whether it does.
    (void)config.getBoolOr("desc_act", false);
    if (config.getBoolOr("is_marlin_format", false))
      config.error("is_marlin_format", "weights in Marlin's order are not supported; expected "
                                       "checkpoint_format \"gptq\" or \"gptq_v2\"");
    readModuleRules();
    require(config, "pack_dtype", {"int32"});
    readExcluded("modules_to_not_convert");
    // How it was computed and how a loader executes it; whether the head is quantised shows in the
    // files.
    for (const char *key : {"backend",
                            "batch_size",
                            "block_name_to_quantize",
                            "cache_block_outputs",
                            "damp_percent",
                            "dataset",
                            "disable_exllama",
                            "exllama_config",
                            "lm_head",
                            "max_input_length",
                            "meta",
                            "model_file_base_name",
                            "model_name_or_path",
                            "model_seqlen",
                            "module_name_preceding_first_block",
                            "modules_in_block_to_quantize",
                            "pad_token_id",
                            "static_groups",
                            "tokenizer",
                            "true_sequential",
                            "use_cuda_fp16",
                            "use_exllama",
                            "damp_auto_increment",
                            "hyb_act",
                            "mse",
                            "parallel_packing",
                            "quant_method",
                            "version"})
      config.ignore(key);
  }

  /// "-:" and an expression name modules that are not quantised, "+:" those with other settings.
  void readModuleRules() {
    config.ignore("dynamic");
    if (!config.has("dynamic"))
      return;
    const auto *rules = config.value().find("dynamic")->objectIf();
    if (!rules)
      return config.error("dynamic", "expected an object");
    for (const json::Member &rule : *rules) {
      StringRef name = rule.key;
      if (!name.consume_front("-:"))
        return config.error("dynamic",
                            "settings for single modules are not supported (\"" + rule.key + "\")");
      scheme.excluded.push_back("re:" + name.str());
    }
  }

  void readModelOpt() {
    std::string algorithm = config.getString("quant_algo");
    ignoreActivationScales();
    if (algorithm == "FP8" || algorithm == "FP8_PER_CHANNEL_PER_TOKEN") {
      addGroup(QuantStorage::kFloat8);
      config.ignore("group_size");
    } else if (algorithm == "NVFP4") {
      QuantGroup &group = addGroup(QuantStorage::kNvfp4);
      group.bits = 4;
      group.modelOpt = true;
      group.groupColumns = config.getIntOr("group_size", 16);
      if (group.groupColumns != 16 && !config.failed())
        config.error("group_size", std::to_string(group.groupColumns) + " is not supported; "
                                                                        "NVFP4 has groups of 16");
    } else if (!config.failed()) {
      config.error("quant_algo", "\"" + algorithm +
                                     "\" is not supported; expected FP8, FP8_PER_CHANNEL_PER_TOKEN "
                                     "or NVFP4");
      config.ignore("group_size");
    }
    for (const char *key : {"kv_cache_scheme", "kv_cache_quant_algo"})
      noteKvCache(key);
    readExcluded("exclude_modules");
    readExcluded("ignore");
    // The algorithm once more in another vocabulary, and who exported it.
    for (const char *key : {"config_groups", "producer", "quant_method"})
      config.ignore(key);
  }

  void readCompressedTensors() {
    std::string format =
        require(config, "format",
                {"dense", "float-quantized", "naive-quantized", "int-quantized", "pack-quantized",
                 "nvfp4-pack-quantized", "mxfp4-pack-quantized", "mixed-precision"});
    ignoreActivationScales();
    noteKvCache("kv_cache_scheme");
    readExcluded("ignore");
    require(config, "quantization_status", {"compressed", "frozen"});
    refuseUnlessEmpty("transform_config", "transforms of activations");
    if (std::optional<ConfigReader> sparsity = config.getObject("sparsity_config")) {
      if (!sparsity->value().objectIf()->empty())
        require(*sparsity, "format", {"dense"});
      sparsity->ignoreAll();
    }
    for (const char *key : {"global_compression_ratio", "quant_method", "version"})
      config.ignore(key);
    std::optional<ConfigReader> groups = config.getObject("config_groups");
    if (!groups || groups->value().objectIf()->empty()) {
      if (!config.failed())
        config.error("config_groups", "is missing; it says what the weights are");
      return;
    }
    for (const json::Member &member : *groups->value().objectIf())
      if (std::optional<ConfigReader> group = groups->getObject(member.key))
        readCompressedGroup(*group);
  }

  void refuseUnlessEmpty(const char *key, const char *what) {
    if (config.has(key)) {
      const json::Value *value = config.value().find(key);
      if (!value->objectIf() || !value->objectIf()->empty())
        config.error(key, std::string(what) + " are not supported");
    }
    config.ignore(key);
  }

  void readCompressedGroup(ConfigReader &reader) {
    std::vector<std::string> targets = reader.getStrings("targets");
    reader.ignore("input_activations"); // products take float32 activations
    reader.ignore("format");            // shows in the files
    if (reader.has("output_activations"))
      reader.error("output_activations", "quantised results are not supported");
    reader.ignore("output_activations");
    std::optional<ConfigReader> weights = reader.getObject("weights");
    if (!weights)
      return; // only activations are quantised
    int64_t bits = weights->getInt("num_bits");
    std::string type = weights->getStringOr("type", "int");
    std::string strategy = weights->getString("strategy");
    bool symmetric = weights->getBoolOr("symmetric", true);
    if (weights->getBoolOr("dynamic", false))
      weights->error("dynamic", "weights have no dynamic scales");
    if (weights->has("actorder"))
      require(*weights, "actorder", {"weight", "static"}); // the order of rounding only
    for (const char *key : {"actorder", "observer", "observer_kwargs", "scale_dtype", "zp_dtype"})
      weights->ignore(key);
    int64_t groupSize = weights->has("group_size") ? readGroupSize(*weights, "group_size") : 0;
    weights->ignore("group_size");
    std::pair<int64_t, int64_t> block = {0, 0};
    if (strategy == "block")
      block = readBlockStructure(*weights);
    weights->ignore("block_structure");
    if (config.failed())
      return;

    bool wantsGroup = strategy == "group" || strategy == "tensor_group";
    if (!wantsGroup && strategy != "tensor" && strategy != "channel" && strategy != "block")
      return weights->error("strategy", "\"" + strategy +
                                            "\" is not supported for weights; expected tensor, "
                                            "channel, group, tensor_group or block");
    if (wantsGroup && groupSize == 0)
      return weights->error("group_size", "is missing; the strategy is \"" + strategy + "\"");
    QuantGroup group;
    group.bits = int(bits);
    group.symmetric = symmetric;
    group.targets = std::move(targets);
    group.groupColumns = wantsGroup ? groupSize : block.second;
    group.blockRows = block.first;
    auto add = [&](QuantStorage storage) {
      group.storage = storage;
      scheme.groups.push_back(group);
    };
    if (type == "float" && bits == 8 && symmetric)
      return add(QuantStorage::kFloat8);
    if (type == "float" && bits == 4 && strategy == "tensor_group" && groupSize == 16)
      return add(QuantStorage::kNvfp4);
    if (type == "float" && bits == 4 && strategy == "group" && groupSize == 32)
      return add(QuantStorage::kMxfp4);
    if (type == "int" && (bits == 4 || bits == 8) && strategy != "block" &&
        strategy != "tensor_group") {
      add(QuantStorage::kPacked);
      if (symmetric)
        add(QuantStorage::kInt8); // which of the two shows in the files
      return;
    }
    weights->error("num_bits", std::to_string(bits) + " bits of type \"" + type +
                                   "\" with strategy \"" + strategy + "\"" +
                                   (symmetric ? "" : ", not symmetric,") + " are not supported");
  }

  /// block_structure is [128, 128] or "128x128".
  std::pair<int64_t, int64_t> readBlockStructure(ConfigReader &weights) {
    const json::Value *value = weights.value().find("block_structure");
    if (!value || !value->stringIf())
      return readBlock(weights, "block_structure");
    auto [rows, columns] = StringRef(*value->stringIf()).split('x');
    std::pair<int64_t, int64_t> block;
    if (rows.getAsInteger(10, block.first) || columns.getAsInteger(10, block.second) ||
        block.first < 1 || block.second < 1) {
      weights.error("block_structure", "expected the form 128x128");
      return {1, 1};
    }
    return block;
  }

  ConfigReader config;
  QuantScheme &scheme;
};

} // namespace

bool matchesGlob(StringRef pattern, StringRef name) {
  auto [head, tail] = pattern.split('*');
  if (head.size() == pattern.size())
    return pattern == name;
  if (!name.consume_front(head))
    return false;
  for (size_t skip = 0; skip <= name.size(); ++skip)
    if (matchesGlob(tail, name.drop_front(skip)))
      return true;
  return false;
}

bool QuantScheme::excludes(std::string_view module) const {
  return llvm::any_of(excluded, [&](const std::string &entry) {
    return names(entry, StringRef(module.data(), module.size()));
  });
}

const QuantGroup *QuantScheme::groupOf(std::string_view module,
                                       std::span<const QuantStorage> storages) const {
  std::vector<const QuantGroup *> candidates;
  for (const QuantGroup &group : groups)
    if (llvm::is_contained(storages, group.storage))
      candidates.push_back(&group);
  if (candidates.size() < 2)
    return candidates.empty() ? nullptr : candidates.front();
  // Several kinds of modules: by their names, else the one for linear layers at large.
  const QuantGroup *found = nullptr, *general = nullptr;
  for (const QuantGroup *group : candidates) {
    if (llvm::any_of(group->targets, [&](const std::string &target) {
          return names(target, StringRef(module.data(), module.size()));
        })) {
      if (found)
        return nullptr;
      found = group;
    }
    if (llvm::is_contained(group->targets, "Linear"))
      general = group;
  }
  return found ? found : general;
}

QuantScheme QuantScheme::read(ConfigReader &config, const Checkpoint &checkpoint) {
  QuantScheme scheme;
  if (std::optional<ConfigReader> own = config.getObject(kConfigKey)) {
    std::string method = own->getString("quant_method");
    if (!config.failed())
      SchemeReader(*own, scheme).read(method);
    else
      own->ignoreAll();
    return scheme;
  }
  const json::Value &beside = checkpoint.quantConfig();
  if (beside.isNull())
    return scheme;
  ConfigReader document(beside, "hf_quant_config.json");
  document.ignore("producer");
  if (std::optional<ConfigReader> own = document.getObject("quantization"))
    SchemeReader(*own, scheme).read("modelopt");
  else
    document.error("quantization", "is missing; it says what the weights are");
  document.finish("ModelOpt");
  config.adopt(document);
  return scheme;
}

std::span<const QuantFormatInfo> allQuantFormats() {
  static constexpr QuantFormatInfo kFormats[] = {
      {"fp8", "E4M3 codes with scales per block, row or tensor"},
      {"compressed-tensors",
       "float-quantized (E4M3), int-quantized (8 bits), pack-quantized (4 or 8 "
       "bits), nvfp4-pack-quantized, mxfp4-pack-quantized"},
      {"awq", "4 bits, version gemm"},
      {"gptq", "4 bits, checkpoint_format gptq or gptq_v2, without reordered columns"},
      {"modelopt", "FP8, FP8_PER_CHANNEL_PER_TOKEN, NVFP4"},
      {"mxfp4", "experts of gpt-oss"},
  };
  return kFormats;
}

} // namespace sluice
