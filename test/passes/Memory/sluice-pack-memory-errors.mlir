// RUN: sluice-opt --sluice-pack-memory %s -verify-diagnostics -split-input-file

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
// expected-error @below {{'plan.rank' op is packed already}}
plan.rank @rank0 number 0 {
  plan.program @tokens4 tokens 4 arena 0 live 0 {}
}
}

// -----

plan.rank @rank0 number 0 {
  plan.cache @k bytes 1000000000000000
  // expected-error @below {{does not fit: the kv slab would exceed 2^50 bytes}}
  plan.cache @v bytes 1000000000000000
}

// -----

module attributes {moe.limits = {max_batch_tokens = 4 : i64, max_seqs = 2 : i64, max_seq_len = 32 : i64, max_logit_rows = 2 : i64, page_size = 16 : i64, num_pages = 4 : i64}} {
plan.kernel @residual_0 = "residual"(width = 16, multiplier = 1.0)
plan.rank @rank0 number 0 {
  plan.io @header bytes 32
  // expected-error @below {{needs more than 2^50 bytes of transient buffers; lower max_batch_tokens}}
  plan.program @tokens4 tokens 4 {
    %h = plan.async.io @header : !plan.buffer<32>
    %a = plan.async.transient "a" : !plan.buffer<1000000000000000>
    %b = plan.async.transient "b" : !plan.buffer<1000000000000000>
    %c = plan.async.transient "c" : !plan.buffer<256>
    plan.async.launch @residual_0(%h[32], %a[1000000000000000], %b[1000000000000000], %c[256]) stream 0 label "huge"
  }
}
}
