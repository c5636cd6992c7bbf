//! Random numbers that a failed test can be run with again.

/// The seed of a test's random numbers: that of `DSCONV_SEED`, or a random one, which is printed.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("DSCONV_SEED").ok().map(|seed| seed.parse().expect("DSCONV_SEED"));
    let seed = given.unwrap_or_else(|| fastrand::u64(..1 << 32));
    println!("DSCONV_SEED={seed}");
    seed
}
