//===- NeutralKeys.cpp - Configuration keys that never matter ---------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The one table of keys that no importer needs to read. A key belongs here only if no value of it
// changes the logits of any family; a key that is irrelevant to one family is ignored by that
// family's importer instead.
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/checkpoint/ConfigReader.h"

#include <algorithm>
#include <iterator>

namespace sluice {

static constexpr std::string_view kNeutralKeys[] = {
    // Who wrote the file, and how tools find their code for it. The family is known by then.
    "_name_or_path",
    "architectures",
    "auto_map",
    "model_type",
    "name_or_path",
    "tokenizer_class",
    "transformers_version",
    // The type the publisher computes in. Tensors carry their own.
    "dtype",
    "torch_dtype",
    // Training.
    "attention_dropout",
    "attn_pdrop",
    "embd_pdrop",
    "gradient_checkpointing",
    "hidden_dropout",
    "initializer_range",
    "resid_pdrop",
    "router_aux_loss_coef",
    // What a framework returns, and how it executes. pretraining_tp only splits products.
    "_attn_implementation",
    "_attn_implementation_autoset",
    "attn_implementation",
    "chunk_size_feed_forward",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "pretraining_tp",
    "return_dict",
    "use_cache",
    // Padding does not exist in a ragged batch.
    "pad_token_id",
    // Heads of other tasks.
    "finetuning_task",
    "id2label",
    "label2id",
    "problem_type",
    "task_specific_params",
};

bool isNeutralKey(std::string_view key) {
  return std::find(std::begin(kNeutralKeys), std::end(kNeutralKeys), key) != std::end(kNeutralKeys);
}

} // namespace sluice
