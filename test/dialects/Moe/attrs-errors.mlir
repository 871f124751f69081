// One test per numbered constraint of the attributes, in the order of MoeAttrs.td, then the module's
// description and the assembly of parameter groups.
//
// RUN: sluice-opt %s -verify-diagnostics -split-input-file

// expected-error @below {{moe.source C1: the key is empty}}
moe.weight @w : tensor<4xf32> = #moe.source<"" in "" : tensor<4xf32>>

// -----

// expected-error @below {{moe.source C2: type 'tensor<?xf32>' has dynamic dimensions}}
moe.weight @w : tensor<4xf32> = #moe.source<"w" in "" : tensor<?xf32>>

// -----

// expected-error @below {{moe.stack C1: pattern "e.w" has 0 places for the index, expected one {}}}
moe.weight @w : tensor<2x4xf32> = #moe.stack<"e.w" x 2 in [""] : tensor<2x4xf32>>

// -----

// expected-error @below {{moe.stack C2: count = 3 is not the positive first dimension of 'tensor<2x4xf32>'}}
moe.weight @w : tensor<2x4xf32> = #moe.stack<"e.{}" x 3 in [""] : tensor<2x4xf32>>

// -----

// expected-error @below {{moe.stack C3: files [] is not a non-empty list of strings}}
moe.weight @w : tensor<2x4xf32> = #moe.stack<"e.{}" x 2 in [] : tensor<2x4xf32>>

// -----

// expected-error @below {{moe.stack C4: type 'tensor<2x?xf32>' has dynamic dimensions}}
moe.weight @w : tensor<2x4xf32> = #moe.stack<"e.{}" x 2 in [""] : tensor<2x?xf32>>

// -----

// expected-error @below {{expected a weight expression}}
moe.weight @w : tensor<4xf32> = #moe.slice<4 : i64, axis = 0, begin = 0, size = 4>

// -----

// expected-error @below {{moe.slice C2: axis = 1 is outside the 1 axes of 'tensor<8xf32>'}}
moe.weight @w : tensor<4xf32> = #moe.slice<#moe.source<"w" in "" : tensor<8xf32>>, axis = 1, begin = 0, size = 4>

// -----

// expected-error @below {{moe.slice C3: begin = -1, size = 4, stride = 1 must be at least 0, 1, 1}}
moe.weight @w : tensor<4xf32> = #moe.slice<#moe.source<"w" in "" : tensor<8xf32>>, axis = 0, begin = -1, size = 4>

// -----

// expected-error @below {{moe.slice C4: begin = 1, size = 4, stride = 3 reach past the 8 rows of axis 0}}
moe.weight @w : tensor<4xf32> = #moe.slice<#moe.source<"w" in "" : tensor<8xf32>>, axis = 0, begin = 1, size = 4, stride = 3>

// -----

// The end of the slice does not fit into 64 bits.
// expected-error @below {{moe.slice C4: begin = 9223372036854775807, size = 4, stride = 1 reach past the 8 rows of axis 0}}
moe.weight @w : tensor<4xf32> = #moe.slice<#moe.source<"w" in "" : tensor<8xf32>>, axis = 0, begin = 9223372036854775807, size = 4>

// -----

// expected-error @below {{the weight expression has type 'tensor<4xf32>', but 'tensor<5xf32>' is written after it}}
moe.weight @w : tensor<4xf32> = #moe.slice<#moe.source<"w" in "" : tensor<8xf32>>, axis = 0, begin = 0, size = 4> : tensor<5xf32>

// -----

// expected-error @below {{expected a weight expression}}
moe.weight @w : tensor<4xf32> = #moe.take<"w", [0]>

// -----

// expected-error @below {{moe.take C2: taking 0 rows of 'tensor<8xf32>' leaves nothing}}
moe.weight @w : tensor<4xf32> = #moe.take<#moe.source<"w" in "" : tensor<8xf32>>, []>

// -----

// expected-error @below {{moe.take C3: index 8 is outside the 8 rows of 'tensor<8xf32>'}}
moe.weight @w : tensor<2xf32> = #moe.take<#moe.source<"w" in "" : tensor<8xf32>>, [7, 8]>

// -----

// expected-error @below {{expected a weight expression}}
moe.weight @w : tensor<2xf32> = #moe.concat<axis = 0, [unit]>

// -----

// expected-error @below {{moe.concat C3: axis = -1 is outside the 1 axes of 'tensor<8xf32>'}}
moe.weight @w : tensor<2xf32> = #moe.concat<axis = -1, [#moe.source<"w" in "" : tensor<8xf32>>]>

// -----

// expected-error @below {{moe.concat C4: operand 1 of type 'tensor<2x3xf32>' does not fit to 'tensor<2x4xf32>' along axis 0}}
moe.weight @w : tensor<4x4xf32> = #moe.concat<axis = 0, [#moe.source<"a" in "" : tensor<2x4xf32>>, #moe.source<"b" in "" : tensor<2x3xf32>>]>

// -----

// expected-error @below {{moe.concat C4: operand 1 of type 'tensor<2x4xbf16>' does not fit to 'tensor<2x4xf32>' along axis 0}}
moe.weight @w : tensor<4x4xf32> = #moe.concat<axis = 0, [#moe.source<"a" in "" : tensor<2x4xf32>>, #moe.source<"b" in "" : tensor<2x4xbf16>>]>

// -----

// expected-error @below {{moe.transpose C2: [0, 0] is not a permutation of 2 axes}}
moe.weight @w : tensor<4x4xf32> = #moe.transpose<#moe.source<"a" in "" : tensor<4x4xf32>>, [0, 0]>

// -----

// expected-error @below {{moe.reshape C2: type 'tensor<?xf32>' has dynamic dimensions}}
moe.weight @w : tensor<16xf32> = #moe.reshape<#moe.source<"a" in "" : tensor<4x4xf32>> to tensor<?xf32>>

// -----

// expected-error @below {{moe.reshape C3: 'tensor<4x4xf32>' and 'tensor<15xf32>' hold different numbers of elements}}
moe.weight @w : tensor<15xf32> = #moe.reshape<#moe.source<"a" in "" : tensor<4x4xf32>> to tensor<15xf32>>

// -----

// expected-error @below {{moe.reshape C4: element types of 'tensor<4x4xf32>' and 'tensor<16xbf16>' differ, use moe.convert to change them}}
moe.weight @w : tensor<16xbf16> = #moe.reshape<#moe.source<"a" in "" : tensor<4x4xf32>> to tensor<16xbf16>>

// -----

// expected-error @below {{moe.convert C2: 'index' is neither an integer nor a floating-point type}}
moe.weight @w : tensor<16xindex> = #moe.convert<#moe.source<"a" in "" : tensor<16xf32>> to index>

// -----

// expected-error @below {{moe.dequantize C2: codes of type 'tensor<4x32xi32>' are not a matrix of i8}}
moe.weight @w : tensor<4x32xf32> = #moe.dequantize<#moe.source<"q" in "" : tensor<4x32xi32>> by #moe.source<"s" in "" : tensor<4x1xf32>> group = 32>

// -----

// expected-error @below {{moe.dequantize C2: codes of type 'tensor<32xi8>' are not a matrix of i8}}
moe.weight @w : tensor<32xf32> = #moe.dequantize<#moe.source<"q" in "" : tensor<32xi8>> by #moe.source<"s" in "" : tensor<1xf32>> group = 32>

// -----

// expected-error @below {{moe.dequantize C3: group = 33 is not between 1 and the 32 columns}}
moe.weight @w : tensor<4x32xf32> = #moe.dequantize<#moe.source<"q" in "" : tensor<4x32xi8>> by #moe.source<"s" in "" : tensor<4x1xf32>> group = 33>

// -----

// expected-error @below {{moe.dequantize C4: scales of type 'tensor<4x2xf32>' do not fit to codes of type 'tensor<4x40xi8>' in groups of 16}}
moe.weight @w : tensor<4x40xf32> = #moe.dequantize<#moe.source<"q" in "" : tensor<4x40xi8>> by #moe.source<"s" in "" : tensor<4x2xf32>> group = 16>

// -----

// expected-error @below {{moe.dequantize C5: codes of type 'f8E4M3FN' have neither zeros nor an origin}}
moe.weight @w : tensor<4x32xf32> = #moe.dequantize<#moe.source<"q" in "" : tensor<4x32xf8E4M3FN>> by #moe.source<"s" in "" : tensor<4x1xf32>> group = 32, origin = 8>

// -----

// expected-error @below {{moe.dequantize C5: zeros of type 'tensor<4x2xi4>' are not i4 or ui8 of the scales' shape}}
moe.weight @w : tensor<4x32xf32> = #moe.dequantize<#moe.source<"q" in "" : tensor<4x32xi4>> by #moe.source<"s" in "" : tensor<4x1xf32>> minus #moe.source<"z" in "" : tensor<4x2xi4>> group = 32>

// -----

// expected-error @below {{moe.repeat C2: axis = 2 is outside the 2 axes of 'tensor<2x2xf32>'}}
moe.weight @w : tensor<4x2xf32> = #moe.repeat<#moe.source<"s" in "" : tensor<2x2xf32>>, axis = 2, times = 2, size = 4>

// -----

// expected-error @below {{moe.repeat C3: times = 0 is not positive}}
moe.weight @w : tensor<4x2xf32> = #moe.repeat<#moe.source<"s" in "" : tensor<2x2xf32>>, axis = 0, times = 0, size = 4>

// -----

// expected-error @below {{moe.repeat C4: the 2 rows of axis 0, each 128 times, do not make 128 rows}}
moe.weight @w : tensor<128x2xf32> = #moe.repeat<#moe.source<"s" in "" : tensor<2x2xf32>>, axis = 0, times = 128, size = 128>

// -----

// expected-error @below {{moe.unpack C2: words of 'f32' cannot be taken apart into 'i4'}}
moe.weight @w : tensor<4x8xi4> = #moe.unpack<#moe.source<"q" in "" : tensor<4x1xf32>> to i4, size = 8>

// -----

// expected-error @below {{moe.unpack C3: 2 words of 8 elements do not make rows of 8}}
moe.weight @w : tensor<4x8xi4> = #moe.unpack<#moe.source<"q" in "" : tensor<4x2xi32>> to i4, size = 8>

// -----

// expected-error @below {{moe.unpack C4: [0, 0] is not a permutation of 2 elements}}
moe.weight @w : tensor<4x8xi4> = #moe.unpack<#moe.source<"q" in "" : tensor<4x4xui8>> to i4, size = 8, order = [0, 0]>

// -----

// expected-error @below {{moe.reciprocal C2: elements of type 'bf16' are not f32}}
moe.weight @w : tensor<1xbf16> = #moe.reciprocal<#moe.source<"g" in "" : tensor<1xbf16>>>

// -----

// expected-error @below {{moe has no attribute 'sauce'}}
moe.weight @w : tensor<16xf32> = #moe.sauce<"a">

// -----

// expected-error @below {{moe.rope C1: dim = 7 is not a positive even number}}
func.func private @f() attributes {a = #moe.rope<dim = 7, base = 1.0e+04>}

// -----

// expected-error @below {{moe.rope C2: offset = -2 is negative}}
func.func private @f() attributes {a = #moe.rope<dim = 8, offset = -2, base = 1.0e+04>}

// -----

// expected-error-re @below {{moe.rope C3: base = {{.*}} is not a positive f64}}
func.func private @f() attributes {a = #moe.rope<dim = 8>}

// -----

// expected-error @below {{needs a rope_type of linear, dynamic, yarn, llama3 or longrope}}
func.func private @f() attributes {a = #moe.rope<dim = 8, base = 1.0e+04, scaling = {rope_type = "spiral"}>}

// -----

// expected-error @below {{unknown parameter 'theta', expected dim, offset, interleaved, base or scaling}}
func.func private @f() attributes {a = #moe.rope<dim = 8, theta = 1.0e+04>}

// -----

// expected-error @below {{parameter 'dim' is given twice}}
func.func private @f() attributes {a = #moe.rope<dim = 8, dim = 8>}

// -----

// expected-error @below {{moe.routing C1: top_k = 0 is not positive}}
func.func private @f() attributes {a = #moe.routing<softmax, top_k = 0>}

// -----

// expected-error @below {{moe.routing C2: topk_group = 5 is not between 1 and the number of groups 4}}
func.func private @f() attributes {a = #moe.routing<softmax, top_k = 2, groups = 4, topk_group = 5, group_score = max>}

// -----

// expected-error @below {{moe.routing C3: groups = 4 and group_score = none contradict each other, more than one group needs a score and one group none}}
func.func private @f() attributes {a = #moe.routing<softmax, top_k = 2, groups = 4>}

// -----

// expected-error-re @below {{moe.routing C4: epsilon = {{-1.*}} and jitter = {{0.*}} must be at least 0 and finite}}
func.func private @f() attributes {a = #moe.routing<softmax, top_k = 2, epsilon = -1.0>}

// -----

// expected-error-re @below {{moe.routing C5: scale = {{0.*}} must be finite and not 0}}
func.func private @f() attributes {a = #moe.routing<softmax, top_k = 2, scale = 0.0>}

// -----

// expected-error @below {{'entmax' is not a score function}}
func.func private @f() attributes {a = #moe.routing<entmax, top_k = 2>}

// -----

// expected-error @below {{unknown parameter 'k', expected top_k, renormalize, epsilon, scale, groups, topk_group, group_score, sparse_mixer or jitter}}
func.func private @f() attributes {a = #moe.routing<softmax, k = 2>}

// -----

// expected-error-re @below {{moe.activation C1: alpha = {{-1.*}} is not positive}}
func.func private @f() attributes {a = #moe.activation<swiglu_oai, alpha = -1.0>}

// -----

// expected-error-re @below {{moe.activation C2: limit = {{-7.*}} is negative, 0 means no limit}}
func.func private @f() attributes {a = #moe.activation<swiglu_oai, limit = -7.0>}

// -----

// expected-error @below {{unknown parameter 'beta', expected alpha or limit}}
func.func private @f() attributes {a = #moe.activation<silu, beta = 1.0>}

// -----

// The module's description.

// expected-error @below {{'moe.phase' belongs on the module, not on 'func.func'}}
func.func private @f() attributes {moe.phase = "input"}

// -----

// expected-error @below {{'moe.phase' C1: "baked" is none of the phases input, normalized, quantized, placed, fused, partitioned, planned}}
module attributes {moe.phase = "baked"} {}

// -----

// expected-error @below {{'moe.target' C1: must be a string}}
module attributes {moe.target = 90 : i64} {}

// -----

// expected-error @below {{'moe.model' C1: must be a dictionary}}
module attributes {moe.model = "mixtral"} {}

// -----

// expected-error @below {{'moe.model' C2: needs a non-empty string 'family'}}
module attributes {moe.model = {name = "m"}} {}

// -----

// expected-error @below {{'moe.model' C3: needs an i64 'vocab_size'}}
module attributes {moe.model = {name = "m", family = "mixtral", vocab_size = 8 : i32}} {}

// -----

// expected-error @below {{'moe.model' C3: 'hidden_size' = 0 must be at least 1}}
module attributes {moe.model = {name = "m", family = "mixtral", vocab_size = 8 : i64, hidden_size = 0 : i64}} {}

// -----

// expected-error @below {{'moe.model' C4: needs 'eos_token_ids' = array<i64: ...> of ids that are not negative}}
module attributes {moe.model = {name = "m", family = "mixtral", vocab_size = 8 : i64, hidden_size = 8 : i64, num_layers = 1 : i64, num_experts = 4 : i64, top_k = 2 : i64, max_position = 8 : i64, bos_token_id = -1 : i64, total_parameters = 8 : i64, active_parameters = 8 : i64, eos_token_ids = [2]}} {}

// -----

// expected-error @below {{'moe.model' C5: top_k = 5 exceeds the number of experts 4}}
module attributes {moe.model = {name = "m", family = "mixtral", vocab_size = 8 : i64, hidden_size = 8 : i64, num_layers = 1 : i64, num_experts = 4 : i64, top_k = 5 : i64, max_position = 8 : i64, bos_token_id = 1 : i64, total_parameters = 8 : i64, active_parameters = 8 : i64, eos_token_ids = array<i64: 2>}} {}

// -----

// expected-error @below {{'moe.limits' C1: must be a dictionary}}
module attributes {moe.limits = 4 : i64} {}

// -----

// expected-error @below {{'moe.limits' C2: 'max_seqs' = 0 must be at least 1}}
module attributes {moe.limits = {max_batch_tokens = 8 : i64, max_seqs = 0 : i64, max_seq_len = 16 : i64, max_logit_rows = 4 : i64, page_size = 4 : i64, num_pages = 4 : i64}} {}

// -----

// expected-error @below {{'moe.limits' C3: max_logit_rows = 9 exceeds max_batch_tokens = 8}}
module attributes {moe.limits = {max_batch_tokens = 8 : i64, max_seqs = 2 : i64, max_seq_len = 16 : i64, max_logit_rows = 9 : i64, page_size = 4 : i64, num_pages = 4 : i64}} {}

// -----

// expected-error @below {{'moe.limits' C4: max_seqs = 9 exceeds max_batch_tokens = 8}}
module attributes {moe.limits = {max_batch_tokens = 8 : i64, max_seqs = 9 : i64, max_seq_len = 16 : i64, max_logit_rows = 4 : i64, page_size = 4 : i64, num_pages = 4 : i64}} {}

// -----

// expected-error @below {{'moe.limits' C5: num_pages = 3 of 4 tokens hold no sequence of max_seq_len = 16}}
module attributes {moe.limits = {max_batch_tokens = 8 : i64, max_seqs = 2 : i64, max_seq_len = 16 : i64, max_logit_rows = 4 : i64, page_size = 4 : i64, num_pages = 3 : i64}} {}

// -----

// expected-error @below {{moe.quantize C2: numbers of type 'tensor<32xf32>' are not a matrix of f32, bf16 or f16}}
moe.weight @w : tensor<32xf32> = #moe.quantize<#moe.source<"w" in "" : tensor<32xf32>> to "mxfp4">

// -----

// expected-error @below {{moe.quantize C2: numbers of type 'tensor<4x32xi8>' are not}}
moe.weight @w : tensor<4x32xf32> = #moe.quantize<#moe.source<"w" in "" : tensor<4x32xi8>> to "mxfp4">

// -----

// expected-error @below {{moe.quantize C3: weight format "fp3" is not known}}
moe.weight @w : tensor<4x32xf32> = #moe.quantize<#moe.source<"w" in "" : tensor<4x32xf32>> to "fp3">

// -----

// expected-error @below {{moe.quantize C3: "bf16" is no quantised format}}
moe.weight @w : tensor<4x32xf32> = #moe.quantize<#moe.source<"w" in "" : tensor<4x32xf32>> to "bf16">

// -----

// expected-error @below {{moe.quantize C4: rows of 48 columns are not whole groups of 32, which "mxfp4" scales together}}
moe.weight @w : tensor<4x48xf32> = #moe.quantize<#moe.source<"w" in "" : tensor<4x48xf32>> to "mxfp4">

// -----

// expected-error @below {{moe.quantize C5: "mxfp4" has no zeros}}
moe.weight @w : tensor<4x1xf32> = #moe.quantize<#moe.source<"w" in "" : tensor<4x32xf32>> to "mxfp4", part = zeros>
