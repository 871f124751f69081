# ===- variants.py - What make_references.py makes ------------------------------===#
#
# Part of the Sluice project, under the Apache License 2.0.
#
# One entry per folder of test/data/golden. `config` becomes config.json: keys and spellings are
# those of public checkpoints, mostly the older ones, with small sizes; window and trained lengths
# are so short that 40 positions cross them. Together the entries take every family through the
# settings that public models of it differ in.
#
# classes: the classes of transformers that compute the reference.
# for_transformers: keys that replace those of config.json for transformers, where it reads the
#   same settings under other names.
# unfuse: store experts one by one, where transformers saves them fused.
# always_long: rotate by the long factors, see make_references.py.
# extra_tensors: tensors beside the model's own, which an importer has to leave alone.
#
# ===------------------------------------------------------------------------===#

SIZES = {
    "vocab_size": 64,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-05,
    "initializer_range": 0.02,
    "attention_dropout": 0.0,
    "use_cache": True,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.46.1",
}


def config(architecture, model_type, **settings):
    return {"architectures": [architecture], "model_type": model_type, **SIZES, **settings}


# DeepSeek's attention, small.
LATENT = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 24,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
    "rope_theta": 10000,
    "attention_bias": False,
}


# Frequencies stretched, nothing else scaled: the publisher's "apply_scale": false.
LARGE_3_ROPE = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "original_max_position_embeddings": 16,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "attention_factor": 1.0,
}


def yarn(**settings):
    return {
        "type": "yarn",
        "factor": 8,
        "original_max_position_embeddings": 16,
        "beta_fast": 32,
        "beta_slow": 1,
        **settings
    }


VARIANTS = {
    # As DeepSeek-V2-Lite: queries without a latent, greedy routing, YaRN whose two mscales cancel
    # in the rotation and remain in the attention's scale.
    "deepseek_v2_lite": {
        "classes": ("DeepseekV2Config", "DeepseekV2ForCausalLM"),
        "config":
            config("DeepseekV2ForCausalLM", "deepseek_v2", **LATENT, q_lora_rank=None,
                   first_k_dense_replace=1, moe_layer_freq=1, intermediate_size=96,
                   moe_intermediate_size=32, n_routed_experts=8, num_experts_per_tok=3,
                   n_shared_experts=2, n_group=1, topk_group=1, topk_method="greedy",
                   scoring_func="softmax", norm_topk_prob=False, routed_scaling_factor=1.0,
                   aux_loss_alpha=0.001, seq_aux=True, ep_size=1, pretraining_tp=1,
                   tie_word_embeddings=False,
                   rope_scaling=yarn(mscale=0.707, mscale_all_dim=0.707)),
    },
    # Queries through a latent, biases, groups, and mscales that do not cancel.
    "deepseek_v2_groups": {
        "classes": ("DeepseekV2Config", "DeepseekV2ForCausalLM"),
        "config":
            config("DeepseekV2ForCausalLM", "deepseek_v2",
                   **{**LATENT, "attention_bias": True}, q_lora_rank=20, first_k_dense_replace=1,
                   moe_layer_freq=1, intermediate_size=64, moe_intermediate_size=24,
                   n_routed_experts=12, num_experts_per_tok=4, n_shared_experts=1, n_group=3,
                   topk_group=2, topk_method="group_limited_greedy", scoring_func="softmax",
                   norm_topk_prob=False, routed_scaling_factor=4.0, tie_word_embeddings=False,
                   rope_scaling=yarn(mscale=1.0, mscale_all_dim=0.5)),
    },
    # As Kimi-K2: one group, two dense layers, YaRN with equal betas.
    "kimi_k2": {
        "classes": ("DeepseekV3Config", "DeepseekV3ForCausalLM"),
        "for_transformers": {"model_type": "deepseek_v3"},
        "config":
            config("DeepseekV3ForCausalLM", "kimi_k2", **{**LATENT, "rope_theta": 50000.0},
                   q_lora_rank=20, first_k_dense_replace=2, moe_layer_freq=1,
                   intermediate_size=64, moe_intermediate_size=24, n_routed_experts=10,
                   num_experts_per_tok=3, n_shared_experts=1, n_group=1, topk_group=1,
                   topk_method="noaux_tc", scoring_func="sigmoid", norm_topk_prob=True,
                   routed_scaling_factor=2.827, aux_loss_alpha=0.001, seq_aux=True,
                   num_nextn_predict_layers=0, pretraining_tp=1, tie_word_embeddings=False,
                   rope_scaling=yarn(beta_fast=1.0, mscale=1.0, mscale_all_dim=1.0))
            | {"num_hidden_layers": 3},
    },
    # What DeepSeek-V3's class can do and no public model does: queries without a latent, halves
    # rotated, weights as they are. With a next-token prediction layer, to be left alone.
    "deepseek_v3_options": {
        "classes": ("DeepseekV3Config", "DeepseekV3ForCausalLM"),
        "config":
            config("DeepseekV3ForCausalLM", "deepseek_v3",
                   **{**LATENT, "attention_bias": True}, q_lora_rank=None, rope_interleave=False,
                   first_k_dense_replace=1, moe_layer_freq=1, intermediate_size=64,
                   moe_intermediate_size=24, n_routed_experts=12, num_experts_per_tok=3,
                   n_shared_experts=2, n_group=4, topk_group=2, topk_method="noaux_tc",
                   scoring_func="sigmoid", norm_topk_prob=False, routed_scaling_factor=1.5,
                   num_nextn_predict_layers=1, tie_word_embeddings=True),
        "extra_tensors": {
            "model.layers.2.enorm.weight": (48,),
            "model.layers.2.hnorm.weight": (48,),
            "model.layers.2.eh_proj.weight": (48, 96),
            "model.layers.2.embed_tokens.weight": (64, 48),
            "model.layers.2.shared_head.norm.weight": (48,),
            "model.layers.2.shared_head.head.weight": (64, 48),
            "model.layers.2.input_layernorm.weight": (48,),
            "model.layers.2.mlp.gate.e_score_correction_bias": (12,),
        },
    },
    # Dense layers by step and by list, biases of queries, keys and values, YaRN.
    "qwen3_moe_dense_layers": {
        "classes": ("Qwen3MoeConfig", "Qwen3MoeForCausalLM"),
        "config":
            config("Qwen3MoeForCausalLM", "qwen3_moe", num_key_value_heads=2, head_dim=16,
                   attention_bias=True, decoder_sparse_step=2, mlp_only_layers=[1],
                   intermediate_size=64, moe_intermediate_size=24, num_experts=8,
                   num_experts_per_tok=3, norm_topk_prob=True, max_window_layers=4,
                   use_sliding_window=False, sliding_window=None, rope_theta=1000000.0,
                   tie_word_embeddings=False, output_router_logits=False,
                   router_aux_loss_coef=0.001,
                   rope_scaling={"rope_type": "yarn", "factor": 4.0,
                                 "original_max_position_embeddings": 16})
            | {"num_hidden_layers": 4},
    },
    "qwen3_moe_window": {
        "classes": ("Qwen3MoeConfig", "Qwen3MoeForCausalLM"),
        "config":
            config("Qwen3MoeForCausalLM", "qwen3_moe", num_key_value_heads=1, head_dim=24,
                   attention_bias=False, decoder_sparse_step=1, mlp_only_layers=[],
                   intermediate_size=64, moe_intermediate_size=24, num_experts=8,
                   num_experts_per_tok=2, norm_topk_prob=False, use_sliding_window=True,
                   sliding_window=7, max_window_layers=1, rope_theta=1000000.0,
                   rope_scaling=None, tie_word_embeddings=True),
    },
    "qwen2_moe_window": {
        "classes": ("Qwen2MoeConfig", "Qwen2MoeForCausalLM"),
        "config":
            config("Qwen2MoeForCausalLM", "qwen2_moe", num_key_value_heads=2,
                   use_sliding_window=True, sliding_window=7, max_window_layers=3,
                   decoder_sparse_step=1, mlp_only_layers=[0], intermediate_size=64,
                   moe_intermediate_size=16, shared_expert_intermediate_size=40, num_experts=8,
                   num_experts_per_tok=3, norm_topk_prob=True, rope_theta=1000000.0,
                   output_router_logits=False, router_aux_loss_coef=0.001,
                   tie_word_embeddings=True)
            | {"num_hidden_layers": 4},
    },
    "olmoe_clip": {
        "classes": ("OlmoeConfig", "OlmoeForCausalLM"),
        "config":
            config("OlmoeForCausalLM", "olmoe", num_key_value_heads=2, clip_qkv=0.75,
                   norm_topk_prob=True, intermediate_size=24, num_experts=12,
                   num_experts_per_tok=4, rope_theta=10000.0, rope_scaling=None,
                   attention_bias=False, router_aux_loss_coef=0.01, pad_token_id=1,
                   tie_word_embeddings=False),
    },
    "mixtral_window": {
        "classes": ("MixtralConfig", "MixtralForCausalLM"),
        "config":
            config("MixtralForCausalLM", "mixtral", num_key_value_heads=2, sliding_window=7,
                   intermediate_size=40, num_local_experts=6, num_experts_per_tok=3,
                   rope_theta=1000000.0, output_router_logits=False, router_aux_loss_coef=0.02,
                   tie_word_embeddings=True),
    },
    "ernie4_5_moe": {
        "classes": ("Ernie4_5_MoeConfig", "Ernie4_5_MoeForCausalLM"),
        "config":
            config("Ernie4_5_MoeForCausalLM", "ernie4_5_moe", num_key_value_heads=2,
                   intermediate_size=64, moe_intermediate_size=24, moe_num_experts=8, moe_k=3,
                   moe_num_shared_experts=2, moe_layer_start_index=1, moe_layer_end_index=3,
                   moe_layer_interval=1, moe_use_aux_free=True, moe_capacity=[8, 8, 8],
                   moe_gate="topk", use_bias=False, rope_theta=500000.0,
                   num_nextn_predict_layers=1, tie_word_embeddings=True)
            | {"num_hidden_layers": 3},
    },
    # No shared experts, biases, a head of its own, every second layer of a range.
    "ernie4_5_moe_options": {
        "classes": ("Ernie4_5_MoeConfig", "Ernie4_5_MoeForCausalLM"),
        "config":
            config("Ernie4_5_MoeForCausalLM", "ernie4_5_moe", num_key_value_heads=4,
                   intermediate_size=64, moe_intermediate_size=24, moe_num_experts=8, moe_k=2,
                   moe_num_shared_experts=0, moe_layer_start_index=0, moe_layer_end_index=2,
                   moe_layer_interval=2, moe_norm_min=1e-12, use_bias=True, rope_theta=500000.0,
                   tie_word_embeddings=False)
            | {"num_hidden_layers": 4},
    },
    "minimax_m2": {
        "classes": ("MiniMaxM2Config", "MiniMaxM2ForCausalLM"),
        "config":
            config("MiniMaxM2ForCausalLM", "minimax_m2", num_key_value_heads=2, head_dim=16,
                   rotary_dim=8, intermediate_size=24, num_local_experts=8,
                   num_experts_per_tok=3, rope_theta=5000000, use_qk_norm=True,
                   qk_norm_type="per_layer", use_routing_bias=True, scoring_func="sigmoid",
                   use_mtp=True, mtp_transformer_layers=1, num_mtp_modules=3,
                   shared_intermediate_size=0, attn_type_list=[1, 1],
                   layernorm_full_attention_beta=1.0, layernorm_linear_attention_beta=1.0,
                   layernorm_mlp_beta=1.0, mlp_intermediate_size=96, router_jitter_noise=0.0,
                   output_router_logits=False, router_aux_loss_coef=0.001,
                   tie_word_embeddings=False),
    },
    "dbrx": {
        "classes": ("DbrxConfig", "DbrxForCausalLM"),
        "for_transformers": {"rope_theta": 500000},
        "config": {
            "architectures": ["DbrxForCausalLM"],
            "model_type": "dbrx",
            "d_model": 48,
            "n_heads": 4,
            "n_layers": 2,
            "max_seq_len": 512,
            "vocab_size": 64,
            "attn_config": {"clip_qkv": 1, "kv_n_heads": 2, "model_type": "",
                            "rope_theta": 500000},
            "ffn_config": {"ffn_hidden_size": 24, "model_type": "", "moe_jitter_eps": 0.01,
                           "moe_loss_weight": 0.05, "moe_num_experts": 8, "moe_top_k": 3},
            "initializer_range": 0.02,
            "emb_pdrop": 0.0,
            "resid_pdrop": 0.0,
            "output_router_logits": False,
            "router_aux_loss_coef": 0.05,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
            "transformers_version": "4.38.2",
            "use_cache": True,
        },
    },
    # DeepSeek-V3's graph with softmax scores and no correction; queries grow with the position.
    # Keys as inference engines translate the publisher's params.json. transformers has the graph
    # as Mistral4, whose rope settings also hold the growth.
    "mistral_large_3": {
        "classes": ("Mistral4Config", "Mistral4ForCausalLM"),
        "for_transformers": {
            "model_type": "mistral4",
            # The part of a head that transformers computes its frequencies from.
            "rope_parameters": {**LARGE_3_ROPE, "llama_4_scaling_beta": 0.1,
                                "partial_rotary_factor": 8 / 24},
        },
        "unfuse": True,
        "config":
            config("MistralLarge3ForCausalLM", "deepseek_v3",
                   **{key: value for key, value in LATENT.items() if key != "rope_theta"},
                   q_lora_rank=20, first_k_dense_replace=1, moe_layer_freq=1,
                   intermediate_size=64, moe_intermediate_size=24, n_routed_experts=8,
                   num_experts_per_tok=3, n_shared_experts=1, n_group=1, topk_group=1,
                   topk_method=None, scoring_func="softmax", norm_topk_prob=True,
                   routed_scaling_factor=1.0, tie_word_embeddings=False,
                   rope_parameters=LARGE_3_ROPE,
                   llama_4_scaling={"original_max_position_embeddings": 16, "beta": 0.1}),
    },
    "glm4_moe_plain": {
        "classes": ("Glm4MoeConfig", "Glm4MoeForCausalLM"),
        "config":
            config("Glm4MoeForCausalLM", "glm4_moe", num_key_value_heads=2, head_dim=16,
                   partial_rotary_factor=0.5, use_qk_norm=False, attention_bias=False,
                   first_k_dense_replace=1, intermediate_size=64, moe_intermediate_size=24,
                   n_routed_experts=12, num_experts_per_tok=3, n_shared_experts=2, n_group=3,
                   topk_group=2, norm_topk_prob=False, routed_scaling_factor=2.5,
                   rope_theta=1000000, rope_scaling=None, num_nextn_predict_layers=1,
                   tie_word_embeddings=True),
        "extra_tensors": {
            "model.layers.2.eh_proj.weight": (48, 96),
            "model.layers.2.enorm.weight": (48,),
            "model.layers.2.hnorm.weight": (48,),
            "model.layers.2.shared_head.norm.weight": (48,),
        },
    },
    # As Llama-4-Scout, in the multimodal wrapper: experts in every layer, Llama 3's rope scaling.
    "llama4_multimodal": {
        "classes": ("Llama4TextConfig", "Llama4ForCausalLM"),
        "rename": lambda name: "language_model." + name,
        "rename_back": lambda name: name.removeprefix("language_model."),
        "extra_tensors": {
            "vision_model.class_embedding": (16,),
            "multi_modal_projector.linear_1.weight": (48, 16),
        },
        "config": {
            "architectures": ["Llama4ForConditionalGeneration"],
            "model_type": "llama4",
            "boi_token_index": 60,
            "eoi_token_index": 61,
            "image_token_index": 62,
            "text_config": {
                **{key: value for key, value in SIZES.items() if key != "transformers_version"},
                "model_type": "llama4_text",
                "num_hidden_layers": 4,
                "num_key_value_heads": 2,
                "head_dim": 12,
                "intermediate_size": 32,
                "intermediate_size_mlp": 64,
                "interleave_moe_layer_step": 1,
                "num_local_experts": 4,
                "num_experts_per_tok": 1,
                "use_qk_norm": False,
                "attention_bias": False,
                "attention_chunk_size": 16,
                "attn_temperature_tuning": True,
                "attn_scale": 0.1,
                "floor_scale": 8,
                "no_rope_layers": [],
                "output_router_logits": False,
                "router_aux_loss_coef": 0.001,
                "router_jitter_noise": 0.0,
                "rope_theta": 500000.0,
                "rope_scaling": {"factor": 16.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                                 "original_max_position_embeddings": 16, "rope_type": "llama3"},
                "for_llm_compressor": False,
            },
            "vision_config": {"model_type": "llama4_vision_model", "hidden_size": 16},
            "torch_dtype": "bfloat16",
            "transformers_version": "4.51.0.dev0",
        },
    },
    "gpt_oss_window": {
        "classes": ("GptOssConfig", "GptOssForCausalLM"),
        "config":
            config("GptOssForCausalLM", "gpt_oss", num_key_value_heads=1, head_dim=16,
                   intermediate_size=24, num_local_experts=6, num_experts_per_tok=3,
                   sliding_window=5, swiglu_limit=3.0, attention_bias=True,
                   initial_context_length=16, experts_per_token=3, rope_theta=150000,
                   rope_scaling={"beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0,
                                 "original_max_position_embeddings": 16, "rope_type": "yarn",
                                 "truncate": False},
                   output_router_logits=False, router_aux_loss_coef=0.9,
                   tie_word_embeddings=False)
            | {"num_hidden_layers": 3},
    },
    "gpt_oss_full": {
        "classes": ("GptOssConfig", "GptOssForCausalLM"),
        "config":
            config("GptOssForCausalLM", "gpt_oss", num_key_value_heads=4, head_dim=12,
                   intermediate_size=24, num_local_experts=6, num_experts_per_tok=2,
                   sliding_window=128, layer_types=["full_attention", "full_attention"],
                   swiglu_limit=7.0, attention_bias=True, rope_theta=10000,
                   rope_scaling={"rope_type": "default"}, tie_word_embeddings=False),
    },
    # Sequences of up to 48 positions rotate by the short factors.
    "phimoe_short_rope": {
        "classes": ("PhimoeConfig", "PhimoeForCausalLM"),
        "config":
            config("PhiMoEForCausalLM", "phimoe", num_key_value_heads=2, intermediate_size=32,
                   num_local_experts=6, num_experts_per_tok=2, attention_bias=True,
                   lm_head_bias=True, router_jitter_noise=0.1, input_jitter_noise=0.01,
                   sliding_window=20, rope_theta=10000.0, original_max_position_embeddings=48,
                   rope_scaling={"type": "longrope",
                                 "short_factor": [1.0, 1.05, 1.1, 1.2, 1.3, 1.5],
                                 "long_factor": [1.0, 1.5, 2.0, 4.0, 8.0, 12.0],
                                 "short_mscale": 1.25, "long_mscale": 1.25,
                                 "original_max_position_embeddings": 48},
                   tie_word_embeddings=False),
    },
    # And here every one of the reference's sequences by the long ones.
    "phimoe_long_rope": {
        "always_long": True,
        "classes": ("PhimoeConfig", "PhimoeForCausalLM"),
        "config":
            config("PhiMoEForCausalLM", "phimoe", num_key_value_heads=4, intermediate_size=32,
                   num_local_experts=6, num_experts_per_tok=2, attention_bias=False,
                   lm_head_bias=False, router_jitter_noise=0.01, sliding_window=None,
                   rope_theta=10000.0, original_max_position_embeddings=8,
                   rope_scaling={"type": "longrope",
                                 "short_factor": [1.0, 1.05, 1.1, 1.2, 1.3, 1.5],
                                 "long_factor": [1.0, 1.5, 2.0, 4.0, 8.0, 12.0],
                                 "short_mscale": 1.25, "long_mscale": 1.25,
                                 "original_max_position_embeddings": 8},
                   tie_word_embeddings=False),
    },
    "granitemoe_tied": {
        "classes": ("GraniteMoeConfig", "GraniteMoeForCausalLM"),
        "config":
            config("GraniteMoeForCausalLM", "granitemoe", num_key_value_heads=1,
                   intermediate_size=24, num_local_experts=10, num_experts_per_tok=4,
                   attention_bias=False, attention_multiplier=0.15, embedding_multiplier=1.5,
                   residual_multiplier=1.25, logits_scaling=1.5, rope_theta=1500000.0,
                   rope_scaling={"type": "linear", "factor": 4.0},
                   output_router_logits=False, router_aux_loss_coef=0.0,
                   tie_word_embeddings=True),
    },
}
