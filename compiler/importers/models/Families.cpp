//===- Families.cpp - The table of model families ---------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A new family is one file in this folder, one declaration in Families.h and one row here.
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/models/Families.h"

namespace sluice {

/// Values of config.json's "architectures".
namespace architectures {
static constexpr llvm::StringLiteral dbrx[] = {"DbrxForCausalLM"};
static constexpr llvm::StringLiteral deepseekV2[] = {"DeepseekV2ForCausalLM"};
static constexpr llvm::StringLiteral deepseekV3[] = {"DeepseekV3ForCausalLM"};
static constexpr llvm::StringLiteral ernie4_5Moe[] = {"Ernie4_5_MoeForCausalLM",
                                                      "Ernie4_5_MoEForCausalLM"};
static constexpr llvm::StringLiteral glm4Moe[] = {"Glm4MoeForCausalLM"};
static constexpr llvm::StringLiteral gptOss[] = {"GptOssForCausalLM"};
static constexpr llvm::StringLiteral graniteMoe[] = {"GraniteMoeForCausalLM"};
static constexpr llvm::StringLiteral llama4[] = {"Llama4ForCausalLM",
                                                 "Llama4ForConditionalGeneration"};
static constexpr llvm::StringLiteral miniMaxM2[] = {"MiniMaxM2ForCausalLM"};
static constexpr llvm::StringLiteral mistralLarge3[] = {"MistralLarge3ForCausalLM"};
static constexpr llvm::StringLiteral mixtral[] = {"MixtralForCausalLM"};
static constexpr llvm::StringLiteral olmoe[] = {"OlmoeForCausalLM"};
static constexpr llvm::StringLiteral phimoe[] = {"PhimoeForCausalLM", "PhiMoEForCausalLM"};
static constexpr llvm::StringLiteral qwen2Moe[] = {"Qwen2MoeForCausalLM"};
static constexpr llvm::StringLiteral qwen3Moe[] = {"Qwen3MoeForCausalLM"};
} // namespace architectures

static const ModelFamily families[] = {
    {"dbrx", architectures::dbrx, importDbrx},
    {"deepseek_v2", architectures::deepseekV2, importDeepseekV2},
    {"deepseek_v3", architectures::deepseekV3, importDeepseekV3},
    {"ernie4_5_moe", architectures::ernie4_5Moe, importErnie4_5Moe},
    {"glm4_moe", architectures::glm4Moe, importGlm4Moe},
    {"gpt_oss", architectures::gptOss, importGptOss},
    {"granitemoe", architectures::graniteMoe, importGraniteMoe},
    {"llama4", architectures::llama4, importLlama4},
    {"minimax_m2", architectures::miniMaxM2, importMiniMaxM2},
    {"mistral_large_3", architectures::mistralLarge3, importMistralLarge3},
    {"mixtral", architectures::mixtral, importMixtral},
    {"olmoe", architectures::olmoe, importOlmoe},
    {"phimoe", architectures::phimoe, importPhimoe},
    {"qwen2_moe", architectures::qwen2Moe, importQwen2Moe},
    {"qwen3_moe", architectures::qwen3Moe, importQwen3Moe},
};

llvm::ArrayRef<ModelFamily> allModelFamilies() { return families; }

} // namespace sluice
