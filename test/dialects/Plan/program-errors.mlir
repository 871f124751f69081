// One test per numbered constraint of the operations inside programs, in the order of PlanOps.td.
// Every module has limits of 4 tokens and the kernels of a 16-wide linear and residual.
//
// RUN: sluice-opt %s -verify-diagnostics -split-input-file

// plan.async.weight

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024
  plan.cache @k bytes 4096
  plan.io @header bytes 32
  plan.program @tokens4 tokens 4 {
    %h = plan.async.io @header : !plan.buffer<32>
    %w = plan.async.weight @w : !plan.buffer<1024>
    %x = plan.async.transient "x" : !plan.buffer<256>
    %y = plan.async.transient "y" : !plan.buffer<256>
    // expected-error @below {{C1: there is no plan.weight @v in @rank0}}
    %v = plan.async.weight @v : !plan.buffer<1024>
  }
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024
  plan.cache @k bytes 4096
  plan.io @header bytes 32
  plan.program @tokens4 tokens 4 {
    %h = plan.async.io @header : !plan.buffer<32>
    %w = plan.async.weight @w : !plan.buffer<1024>
    %x = plan.async.transient "x" : !plan.buffer<256>
    %y = plan.async.transient "y" : !plan.buffer<256>
    // expected-error @below {{C2: buffer of 512 bytes, but @w has 1024}}
    %v = plan.async.weight @w : !plan.buffer<512>
  }
}
}

// -----

// plan.async.cache

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024
  plan.cache @k bytes 4096
  plan.io @header bytes 32
  plan.program @tokens4 tokens 4 {
    %h = plan.async.io @header : !plan.buffer<32>
    %w = plan.async.weight @w : !plan.buffer<1024>
    %x = plan.async.transient "x" : !plan.buffer<256>
    %y = plan.async.transient "y" : !plan.buffer<256>
    // expected-error @below {{C1: there is no plan.cache @header in @rank0}}
    %v = plan.async.cache @header : !plan.buffer<32>
  }
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024
  plan.cache @k bytes 4096
  plan.io @header bytes 32
  plan.program @tokens4 tokens 4 {
    %h = plan.async.io @header : !plan.buffer<32>
    %w = plan.async.weight @w : !plan.buffer<1024>
    %x = plan.async.transient "x" : !plan.buffer<256>
    %y = plan.async.transient "y" : !plan.buffer<256>
    // expected-error @below {{C2: buffer of 512 bytes, but @k has 4096}}
    %v = plan.async.cache @k : !plan.buffer<512>
  }
}
}

// -----

// plan.async.io

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024
  plan.cache @k bytes 4096
  plan.io @header bytes 32
  plan.program @tokens4 tokens 4 {
    %h = plan.async.io @header : !plan.buffer<32>
    %w = plan.async.weight @w : !plan.buffer<1024>
    %x = plan.async.transient "x" : !plan.buffer<256>
    %y = plan.async.transient "y" : !plan.buffer<256>
    // expected-error @below {{C1: there is no plan.io @logits in @rank0}}
    %v = plan.async.io @logits : !plan.buffer<32>
  }
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024
  plan.cache @k bytes 4096
  plan.io @header bytes 32
  plan.program @tokens4 tokens 4 {
    %h = plan.async.io @header : !plan.buffer<32>
    %w = plan.async.weight @w : !plan.buffer<1024>
    %x = plan.async.transient "x" : !plan.buffer<256>
    %y = plan.async.transient "y" : !plan.buffer<256>
    // expected-error @below {{C2: 32 bytes at offset 16 exceed the 32 bytes of @header}}
    %v = plan.async.io @header at 16 : !plan.buffer<32>
  }
}
}

// -----

// plan.async.launch

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024
  plan.cache @k bytes 4096
  plan.io @header bytes 32
  plan.program @tokens4 tokens 4 {
    %h = plan.async.io @header : !plan.buffer<32>
    %w = plan.async.weight @w : !plan.buffer<1024>
    %x = plan.async.transient "x" : !plan.buffer<256>
    %y = plan.async.transient "y" : !plan.buffer<256>
    // expected-error @below {{C1: there is no plan.kernel @linear_7}}
    plan.async.launch @linear_7(%h[32]) stream 0 label "l"
  }
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024
  plan.cache @k bytes 4096
  plan.io @header bytes 32
  plan.program @tokens4 tokens 4 {
    %h = plan.async.io @header : !plan.buffer<32>
    %w = plan.async.weight @w : !plan.buffer<1024>
    %x = plan.async.transient "x" : !plan.buffer<256>
    %y = plan.async.transient "y" : !plan.buffer<256>
    // expected-error @below {{C2: 4 arguments, but linear takes 5}}
    plan.async.launch @linear_0(%h[32], %x[256], %w[1024], %y[256]) stream 0 label "l"
  }
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024
  plan.cache @k bytes 4096
  plan.io @header bytes 32
  plan.program @tokens4 tokens 4 {
    %h = plan.async.io @header : !plan.buffer<32>
    %w = plan.async.weight @w : !plan.buffer<1024>
    %x = plan.async.transient "x" : !plan.buffer<256>
    %y = plan.async.transient "y" : !plan.buffer<256>
    // expected-error @below {{C3: argument 3 'bias' must be none: the kernel's parameters exclude it}}
    plan.async.launch @linear_0(%h[32], %x[256], %w[1024], %x[256], %y[256]) stream 0 label "l"
  }
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024
  plan.cache @k bytes 4096
  plan.io @header bytes 32
  plan.program @tokens4 tokens 4 {
    %h = plan.async.io @header : !plan.buffer<32>
    %w = plan.async.weight @w : !plan.buffer<1024>
    %x = plan.async.transient "x" : !plan.buffer<256>
    %y = plan.async.transient "y" : !plan.buffer<256>
    // expected-error @below {{C3: argument 2 'weight' is none, but the kernel needs it}}
    plan.async.launch @linear_0(%h[32], %x[256], none, none, %y[256]) stream 0 label "l"
  }
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024
  plan.cache @k bytes 4096
  plan.io @header bytes 32
  plan.program @tokens4 tokens 4 {
    %h = plan.async.io @header : !plan.buffer<32>
    %w = plan.async.weight @w : !plan.buffer<1024>
    %x = plan.async.transient "x" : !plan.buffer<256>
    %y = plan.async.transient "y" : !plan.buffer<256>
    // expected-error @below {{C4: argument 4 'out' has 32 bytes, but the kernel needs 256 for 4 tokens}}
    plan.async.launch @linear_0(%h[32], %x[256], %w[1024], none, %h[32]) stream 0 label "l"
  }
}
}

// -----

// plan.async.collective

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024
  plan.cache @k bytes 4096
  plan.io @header bytes 32
  plan.program @tokens4 tokens 4 {
    %h = plan.async.io @header : !plan.buffer<32>
    %w = plan.async.weight @w : !plan.buffer<1024>
    %x = plan.async.transient "x" : !plan.buffer<256>
    %y = plan.async.transient "y" : !plan.buffer<256>
    // expected-error @below {{C6: rows need counts and a width, and only all_gather and reduce_scatter take them}}
    plan.async.collective all_reduce %x into %y of f32 among [0, 1] rows %h : !plan.buffer<32> width 16 stream 0 label "c" : !plan.buffer<256>, !plan.buffer<256>
  }
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024
  plan.cache @k bytes 4096
  plan.io @header bytes 32
  plan.program @tokens4 tokens 4 {
    %h = plan.async.io @header : !plan.buffer<32>
    %w = plan.async.weight @w : !plan.buffer<1024>
    %x = plan.async.transient "x" : !plan.buffer<256>
    %y = plan.async.transient "y" : !plan.buffer<256>
    // expected-error @below {{C6: counts have 32 bytes, expected 4 for each of 2 ranks}}
    plan.async.collective all_gather %x into %y of f32 among [0, 1] rows %h : !plan.buffer<32> width 16 stream 0 label "c" : !plan.buffer<256>, !plan.buffer<256>
  }
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024
  plan.cache @k bytes 4096
  plan.io @header bytes 32
  plan.program @tokens4 tokens 4 {
    %h = plan.async.io @header : !plan.buffer<32>
    %w = plan.async.weight @w : !plan.buffer<1024>
    %x = plan.async.transient "x" : !plan.buffer<256>
    %y = plan.async.transient "y" : !plan.buffer<256>
    %c = plan.async.io @header at 8 : !plan.buffer<8>
    // expected-error @below {{C6: buffers of 256 and 256 bytes do not hold equally many rows of 24}}
    plan.async.collective all_gather %x into %y of f32 among [0, 1] rows %c : !plan.buffer<8> width 24 stream 0 label "c" : !plan.buffer<256>, !plan.buffer<256>
  }
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024
  plan.cache @k bytes 4096
  plan.io @header bytes 32
  plan.program @tokens4 tokens 4 {
    %h = plan.async.io @header : !plan.buffer<32>
    %w = plan.async.weight @w : !plan.buffer<1024>
    %x = plan.async.transient "x" : !plan.buffer<256>
    %y = plan.async.transient "y" : !plan.buffer<256>
    // expected-error @below {{C1: rank 0 appears twice}}
    plan.async.collective all_reduce %x into %y of f32 among [0, 0] stream 0 label "c" : !plan.buffer<256>, !plan.buffer<256>
  }
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024
  plan.cache @k bytes 4096
  plan.io @header bytes 32
  plan.program @tokens4 tokens 4 {
    %h = plan.async.io @header : !plan.buffer<32>
    %w = plan.async.weight @w : !plan.buffer<1024>
    %x = plan.async.transient "x" : !plan.buffer<256>
    %y = plan.async.transient "y" : !plan.buffer<256>
    // expected-error @below {{C1: rank -1 is negative}}
    plan.async.collective all_reduce %x into %y of f32 among [0, -1] stream 0 label "c" : !plan.buffer<256>, !plan.buffer<256>
  }
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024
  plan.cache @k bytes 4096
  plan.io @header bytes 32
  plan.program @tokens4 tokens 4 {
    %h = plan.async.io @header : !plan.buffer<32>
    %w = plan.async.weight @w : !plan.buffer<1024>
    %x = plan.async.transient "x" : !plan.buffer<256>
    %y = plan.async.transient "y" : !plan.buffer<256>
    // expected-error @below {{C1: there are no ranks}}
    plan.async.collective all_reduce %x into %y of f32 among [] stream 0 label "c" : !plan.buffer<256>, !plan.buffer<256>
  }
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024
  plan.cache @k bytes 4096
  plan.io @header bytes 32
  plan.program @tokens4 tokens 4 {
    %h = plan.async.io @header : !plan.buffer<32>
    %w = plan.async.weight @w : !plan.buffer<1024>
    %x = plan.async.transient "x" : !plan.buffer<256>
    %y = plan.async.transient "y" : !plan.buffer<256>
    // expected-error @below {{C2: rank 0 of the program is not among the ranks}}
    plan.async.collective all_reduce %x into %y of f32 among [1, 2] stream 0 label "c" : !plan.buffer<256>, !plan.buffer<256>
  }
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024
  plan.cache @k bytes 4096
  plan.io @header bytes 32
  plan.program @tokens4 tokens 4 {
    %h = plan.async.io @header : !plan.buffer<32>
    %w = plan.async.weight @w : !plan.buffer<1024>
    %x = plan.async.transient "x" : !plan.buffer<256>
    %y = plan.async.transient "y" : !plan.buffer<256>
    // expected-error @below {{C3: broadcast needs a root}}
    plan.async.collective broadcast %x into %y of f32 among [0, 1] stream 0 label "c" : !plan.buffer<256>, !plan.buffer<256>
  }
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024
  plan.cache @k bytes 4096
  plan.io @header bytes 32
  plan.program @tokens4 tokens 4 {
    %h = plan.async.io @header : !plan.buffer<32>
    %w = plan.async.weight @w : !plan.buffer<1024>
    %x = plan.async.transient "x" : !plan.buffer<256>
    %y = plan.async.transient "y" : !plan.buffer<256>
    // expected-error @below {{C3: all_reduce has no root}}
    plan.async.collective all_reduce %x into %y of f32 among [0, 1] root 0 stream 0 label "c" : !plan.buffer<256>, !plan.buffer<256>
  }
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024
  plan.cache @k bytes 4096
  plan.io @header bytes 32
  plan.program @tokens4 tokens 4 {
    %h = plan.async.io @header : !plan.buffer<32>
    %w = plan.async.weight @w : !plan.buffer<1024>
    %x = plan.async.transient "x" : !plan.buffer<256>
    %y = plan.async.transient "y" : !plan.buffer<256>
    // expected-error @below {{C3: root 2 is not among the ranks}}
    plan.async.collective broadcast %x into %y of f32 among [0, 1] root 2 stream 0 label "c" : !plan.buffer<256>, !plan.buffer<256>
  }
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024
  plan.cache @k bytes 4096
  plan.io @header bytes 32
  plan.program @tokens4 tokens 4 {
    %h = plan.async.io @header : !plan.buffer<32>
    %w = plan.async.weight @w : !plan.buffer<1024>
    %x = plan.async.transient "x" : !plan.buffer<256>
    %y = plan.async.transient "y" : !plan.buffer<256>
    // expected-error @below {{C4: all_gather among 2 ranks cannot turn 256 bytes into 256}}
    plan.async.collective all_gather %x into %y of f32 among [0, 1] stream 0 label "c" : !plan.buffer<256>, !plan.buffer<256>
  }
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024
  plan.cache @k bytes 4096
  plan.io @header bytes 32
  plan.program @tokens4 tokens 4 {
    %h = plan.async.io @header : !plan.buffer<32>
    %w = plan.async.weight @w : !plan.buffer<1024>
    %x = plan.async.transient "x" : !plan.buffer<256>
    %y = plan.async.transient "y" : !plan.buffer<256>
    // expected-error @below {{C4: reduce_scatter among 3 ranks cannot turn 256 bytes into 256}}
    plan.async.collective reduce_scatter %x into %y of f32 among [0, 1, 2] stream 0 label "c" : !plan.buffer<256>, !plan.buffer<256>
  }
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024
  plan.cache @k bytes 4096
  plan.io @header bytes 32
  plan.program @tokens4 tokens 4 {
    %h = plan.async.io @header : !plan.buffer<32>
    %w = plan.async.weight @w : !plan.buffer<1024>
    %x = plan.async.transient "x" : !plan.buffer<256>
    %y = plan.async.transient "y" : !plan.buffer<256>
    // expected-error @below {{C5: 256 bytes are not 3 parts of whole 'f32' elements}}
    plan.async.collective all_to_all %x into %y of f32 among [0, 1, 2] stream 0 label "c" : !plan.buffer<256>, !plan.buffer<256>
  }
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024
  plan.cache @k bytes 4096
  plan.io @header bytes 32
  plan.program @tokens4 tokens 4 {
    %h = plan.async.io @header : !plan.buffer<32>
    %w = plan.async.weight @w : !plan.buffer<1024>
    %x = plan.async.transient "x" : !plan.buffer<256>
    %y = plan.async.transient "y" : !plan.buffer<256>
    // expected-error @below {{C5: elements of type 'i1' do not fill whole bytes}}
    plan.async.collective all_reduce %x into %y of i1 among [0, 1] stream 0 label "c" : !plan.buffer<256>, !plan.buffer<256>
  }
}
}

// -----

// plan.cmd.launch

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.slab weights bytes 4096 align 4096
  plan.slab arena bytes 1024 align 256
  plan.slab io bytes 512 align 256
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024 at 0
  plan.io @header bytes 32 at 0
  plan.io @expert_counts bytes 64 at 256
  plan.program @tokens4 tokens 4 arena 768 live 768 {
    // expected-error @below {{C1: there is no plan.kernel @linear_7}}
    plan.cmd.launch @linear_7(io[0 for 32]) stream 0 label "l"
  }
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.slab weights bytes 4096 align 4096
  plan.slab arena bytes 1024 align 256
  plan.slab io bytes 512 align 256
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024 at 0
  plan.io @header bytes 32 at 0
  plan.io @expert_counts bytes 64 at 256
  plan.program @tokens4 tokens 4 arena 768 live 768 {
    // expected-error @below {{C2: 1 arguments, but linear takes 5}}
    plan.cmd.launch @linear_0(io[0 for 32]) stream 0 label "l"
  }
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.slab weights bytes 4096 align 4096
  plan.slab arena bytes 1024 align 256
  plan.slab io bytes 512 align 256
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024 at 0
  plan.io @header bytes 32 at 0
  plan.io @expert_counts bytes 64 at 256
  plan.program @tokens4 tokens 4 arena 768 live 768 {
    // expected-error @below {{C3: argument 4 'out' is none, but the kernel needs it}}
    plan.cmd.launch @linear_0(io[0 for 32], arena[0 for 256], weights[0 for 1024], none, none) stream 0 label "l"
  }
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.slab weights bytes 4096 align 4096
  plan.slab arena bytes 1024 align 256
  plan.slab io bytes 512 align 256
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024 at 0
  plan.io @header bytes 32 at 0
  plan.io @expert_counts bytes 64 at 256
  plan.program @tokens4 tokens 4 arena 768 live 768 {
    // expected-error @below {{C4: argument 1 'x' has 128 bytes, but the kernel needs 256 for 4 tokens}}
    plan.cmd.launch @linear_0(io[0 for 32], arena[0 for 128], weights[0 for 1024], none, arena[256 for 256]) stream 0 label "l"
  }
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.slab weights bytes 4096 align 4096
  plan.slab arena bytes 1024 align 256
  plan.slab io bytes 512 align 256
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024 at 0
  plan.io @header bytes 32 at 0
  plan.io @expert_counts bytes 64 at 256
  plan.program @tokens4 tokens 4 arena 768 live 768 {
    // expected-error @below {{C5: arena[768 for 256] exceeds the 768 bytes of the slab}}
    plan.cmd.launch @linear_0(io[0 for 32], arena[0 for 256], weights[0 for 1024], none, arena[768 for 256]) stream 0 label "l"
  }
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.slab weights bytes 4096 align 4096
  plan.slab arena bytes 1024 align 256
  plan.slab io bytes 512 align 256
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024 at 0
  plan.io @header bytes 32 at 0
  plan.io @expert_counts bytes 64 at 256
  plan.program @tokens4 tokens 4 arena 768 live 768 {
    // expected-error @below {{C5: kv[0 for 256] exceeds the 0 bytes of the slab}}
    plan.cmd.launch @linear_0(io[0 for 32], kv[0 for 256], weights[0 for 1024], none, arena[256 for 256]) stream 0 label "l"
  }
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.slab weights bytes 4096 align 4096
  plan.slab arena bytes 1024 align 256
  plan.slab io bytes 512 align 256
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024 at 0
  plan.io @header bytes 32 at 0
  plan.io @expert_counts bytes 64 at 256
  plan.program @tokens4 tokens 4 arena 768 live 768 {
    // expected-error @below {{C6: arena[300 for 256] does not begin at a multiple of 256}}
    plan.cmd.launch @linear_0(io[0 for 32], arena[0 for 256], weights[0 for 1024], none, arena[300 for 256]) stream 0 label "l"
  }
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.slab weights bytes 4096 align 4096
  plan.slab arena bytes 1024 align 256
  plan.slab io bytes 512 align 256
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024 at 0
  plan.io @header bytes 32 at 0
  plan.io @expert_counts bytes 64 at 256
  plan.program @tokens4 tokens 4 arena 768 live 768 {
    // expected-error @below {{C7: argument 4 'out' arena[0 for 256] is written and overlaps argument 1 'x' arena[0 for 256]}}
    plan.cmd.launch @linear_0(io[0 for 32], arena[0 for 256], weights[0 for 1024], none, arena[0 for 256]) stream 0 label "l"
  }
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.slab weights bytes 4096 align 4096
  plan.slab arena bytes 1024 align 256
  plan.slab io bytes 512 align 256
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024 at 0
  plan.io @header bytes 32 at 0
  plan.io @expert_counts bytes 64 at 256
  plan.program @tokens4 tokens 4 arena 768 live 768 {
    // expected-error @below {{C7: argument 3 'out' arena[256 for 256] is written and overlaps argument 2 'b' arena[256 for 256]}}
    plan.cmd.launch @residual_0(io[0 for 32], arena[0 for 256], arena[256 for 256], arena[256 for 256]) stream 0 label "l"
  }
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.slab weights bytes 4096 align 4096
  plan.slab arena bytes 1024 align 256
  plan.slab io bytes 512 align 256
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024 at 0
  plan.io @header bytes 32 at 0
  plan.io @expert_counts bytes 64 at 256
  plan.program @tokens4 tokens 4 arena 768 live 768 {
    // expected-error @below {{C8: argument 4 'out' is written, but weights are read only}}
    plan.cmd.launch @linear_0(io[0 for 32], arena[0 for 256], weights[0 for 1024], none, weights[0 for 1024]) stream 0 label "l"
  }
}
}

// -----

// plan.cmd.record and plan.cmd.wait

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.slab weights bytes 4096 align 4096
  plan.slab arena bytes 1024 align 256
  plan.slab io bytes 512 align 256
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024 at 0
  plan.io @header bytes 32 at 0
  plan.io @expert_counts bytes 64 at 256
  plan.program @tokens4 tokens 4 arena 768 live 768 {
    plan.cmd.record event 0 stream 0
    // expected-error @below {{C1: event 0 is recorded twice}}
    plan.cmd.record event 0 stream 1
  }
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.slab weights bytes 4096 align 4096
  plan.slab arena bytes 1024 align 256
  plan.slab io bytes 512 align 256
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024 at 0
  plan.io @header bytes 32 at 0
  plan.io @expert_counts bytes 64 at 256
  plan.program @tokens4 tokens 4 arena 768 live 768 {
    // expected-error @below {{C1: event 1 is not recorded before}}
    plan.cmd.wait event 1 stream 0
  }
}
}

// -----

// plan.cmd.collective

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.slab weights bytes 4096 align 4096
  plan.slab arena bytes 1024 align 256
  plan.slab io bytes 512 align 256
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024 at 0
  plan.io @header bytes 32 at 0
  plan.io @expert_counts bytes 64 at 256
  plan.program @tokens4 tokens 4 arena 768 live 768 {
    // expected-error @below {{C2: rank 0 of the program is not among the ranks}}
    plan.cmd.collective all_reduce arena[0 for 256] into arena[256 for 256] of f32 among [1] stream 0 label "c"
  }
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.slab weights bytes 4096 align 4096
  plan.slab arena bytes 1024 align 256
  plan.slab io bytes 512 align 256
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024 at 0
  plan.io @header bytes 32 at 0
  plan.io @expert_counts bytes 64 at 256
  plan.program @tokens4 tokens 4 arena 768 live 768 {
    // expected-error @below {{C7: arena[768 for 256] exceeds the 768 bytes of the slab}}
    plan.cmd.collective all_reduce arena[768 for 256] into arena[0 for 256] of f32 among [0, 1] stream 0 label "c"
  }
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.slab weights bytes 4096 align 4096
  plan.slab arena bytes 1024 align 256
  plan.slab io bytes 512 align 256
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024 at 0
  plan.io @header bytes 32 at 0
  plan.io @expert_counts bytes 64 at 256
  plan.program @tokens4 tokens 4 arena 768 live 768 {
    // expected-error @below {{C8: weights are read only}}
    plan.cmd.collective all_reduce arena[0 for 256] into weights[0 for 256] of f32 among [0, 1] stream 0 label "c"
  }
}
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @linear_0 = "linear"(k = 16, n = 16, format = "f32", rows = "tokens", bias = 0, scale = 1.0, softcap = 0.0)
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
moe.weight @w : tensor<16x16xf32> = dense<1.0> : tensor<16x16xf32>
plan.rank @rank0 number 0 {
  plan.slab weights bytes 4096 align 4096
  plan.slab arena bytes 1024 align 256
  plan.slab io bytes 512 align 256
  plan.weight @w from @w layout "panel16" format "f32" bytes 1024 at 0
  plan.io @header bytes 32 at 0
  plan.io @expert_counts bytes 64 at 256
  plan.program @tokens4 tokens 4 arena 768 live 768 {
    // expected-error @below {{C8: arena[0 for 256] and arena[128 for 256] overlap in part}}
    plan.cmd.collective all_reduce arena[0 for 256] into arena[128 for 256] of f32 among [0, 1] stream 0 label "c"
  }
}
}
