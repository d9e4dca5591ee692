#![no_main]

#[path = "../claims.rs"]
#[allow(dead_code)]
mod claims;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let (mut draw, bytes) = claims::Draw::from(input);
    claims::response(bytes, &mut draw);
});
