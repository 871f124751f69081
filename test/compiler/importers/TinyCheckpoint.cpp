//===- TinyCheckpoint.cpp - Checkpoints made by tests -----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "test/compiler/importers/TinyCheckpoint.h"

#include "compiler/artifact/ElementConversion.h"
#include "compiler/artifact/SyntheticWeights.h"

#include <filesystem>
#include <gtest/gtest.h>

namespace sluice::test {

TinyCheckpoint TinyCheckpoint::mixtral() {
  TinyCheckpoint checkpoint;
  checkpoint.config = *json::parse(R"({
  "architectures": ["MixtralForCausalLM"],
  "vocab_size": 24,
  "hidden_size": 8,
  "intermediate_size": 6,
  "num_hidden_layers": 2,
  "num_attention_heads": 2,
  "num_key_value_heads": 1,
  "head_dim": 4,
  "num_local_experts": 4,
  "num_experts_per_tok": 2,
  "hidden_act": "silu",
  "max_position_embeddings": 64,
  "rms_norm_eps": 1e-05,
  "rope_theta": 10000.0,
  "tie_word_embeddings": false,
  "eos_token_id": 1,
  "torch_dtype": "bfloat16"
})",
                                   "config.json");
  auto add = [&](const std::string &name, std::vector<int64_t> shape, int shard) {
    checkpoint.tensors[name] = {DataType::kBF16, std::move(shape), shard};
  };
  add("model.embed_tokens.weight", {24, 8}, 0);
  for (int layer = 0; layer < 2; ++layer) {
    std::string prefix = "model.layers." + std::to_string(layer) + ".";
    add(prefix + "input_layernorm.weight", {8}, layer);
    add(prefix + "post_attention_layernorm.weight", {8}, layer);
    add(prefix + "self_attn.q_proj.weight", {8, 8}, layer);
    add(prefix + "self_attn.k_proj.weight", {4, 8}, layer);
    add(prefix + "self_attn.v_proj.weight", {4, 8}, layer);
    add(prefix + "self_attn.o_proj.weight", {8, 8}, layer);
    add(prefix + "block_sparse_moe.gate.weight", {4, 8}, layer);
    for (int expert = 0; expert < 4; ++expert) {
      std::string e = prefix + "block_sparse_moe.experts." + std::to_string(expert) + ".";
      // A layer's experts cross the border between the shards.
      add(e + "w1.weight", {6, 8}, expert / 2);
      add(e + "w2.weight", {8, 6}, expert / 2);
      add(e + "w3.weight", {6, 8}, expert / 2);
    }
  }
  add("model.norm.weight", {8}, 1);
  add("lm_head.weight", {24, 8}, 1);
  return checkpoint;
}

std::string shardName(int shard) {
  return "model-0000" + std::to_string(shard + 1) + "-of-00002.safetensors";
}

std::vector<uint8_t> TinyCheckpoint::bytesOf(const std::string &name, const TinyTensor &tensor) {
  std::vector<float> values(size_t(*numElements(tensor.shape)));
  SyntheticTensor(name, tensor.shape).generate(0, values);
  std::vector<uint8_t> bytes(size_t(*tensorBytes(tensor.dtype, tensor.shape)));
  if (canConvertElements(DataType::kF32, tensor.dtype))
    convertElements(DataType::kF32, reinterpret_cast<const std::byte *>(values.data()),
                    tensor.dtype, reinterpret_cast<std::byte *>(bytes.data()),
                    int64_t(values.size()));
  return bytes;
}

static void writeShard(const TinyCheckpoint &checkpoint, const std::string &path, int shard) {
  SafetensorsWriter writer;
  auto holds = [&](const TinyTensor &tensor) { return shard < 0 || tensor.shard == shard; };
  for (const auto &[name, tensor] : checkpoint.tensors)
    if (holds(tensor)) {
      ASSERT_TRUE(writer.declare(name, tensor.dtype, tensor.shape).isOk()) << name;
    }
  auto file = OutputFile::create(path);
  ASSERT_TRUE(file.isOk()) << file.status().toString();
  ASSERT_TRUE(writer.begin(std::move(*file)).isOk());
  for (const auto &[name, tensor] : checkpoint.tensors)
    if (holds(tensor)) {
      ASSERT_TRUE(writer.append(name, TinyCheckpoint::bytesOf(name, tensor)).isOk()) << name;
    }
  auto done = writer.finish();
  ASSERT_TRUE(done.isOk()) << done.status().toString();
}

json::Value makeIndex(const TinyCheckpoint &checkpoint) {
  json::Value map = json::Value::object();
  for (const auto &[name, tensor] : checkpoint.tensors)
    map.set(name, shardName(tensor.shard));
  json::Value index = json::Value::object();
  index.set("weight_map", std::move(map));
  return index;
}

void TinyCheckpoint::write(const std::string &folder, bool sharded) const {
  std::filesystem::create_directories(folder);
  ASSERT_TRUE(writeFile(folder + "/config.json", config.dump(2)).isOk());
  if (!generation.isNull()) {
    ASSERT_TRUE(writeFile(folder + "/generation_config.json", generation.dump(2)).isOk());
  }
  if (!sharded)
    return writeShard(*this, folder + "/model.safetensors", -1);
  writeShard(*this, folder + "/" + shardName(0), 0);
  writeShard(*this, folder + "/" + shardName(1), 1);
  ASSERT_TRUE(writeFile(folder + "/model.safetensors.index.json", makeIndex(*this).dump(2)).isOk());
}

} // namespace sluice::test
