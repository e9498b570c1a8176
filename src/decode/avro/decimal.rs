//! Values of the logical type `decimal`: an unscaled integer in big-endian two's complement, and a
//! scale that the schema has.

/// What the unscaled integer of a decimal is divided by.
pub(super) fn divisor(scale: u32) -> f64 {
    // Powers of ten are exact up to 10^22; `powi` is only close.
    format!("1e{scale}").parse().unwrap_or(f64::INFINITY)
}

/// The decimal in `bytes`, within one unit in the last place; infinite beyond the range of a 64-bit
/// float.
pub(super) fn read(bytes: &[u8], divisor: f64) -> f64 {
    let sign: u8 = match bytes.first() {
        Some(byte) if byte & 0x80 != 0 => 0xFF,
        Some(_) => 0,
        None => return 0.0,
    };
    // The sign may be repeated in front. The kept bytes begin with the first that says more.
    let skipped = bytes.iter().take_while(|&&byte| byte == sign).count();
    let digits = bytes.get(skipped..).unwrap_or_default();
    // 15 bytes leave room for the sign in front of them, and are far more than a float keeps.
    let kept = digits.len().min(15);
    let fill = if sign == 0 { 0 } else { -1 };
    let head = digits.iter().take(kept);
    let head = head.fold(fill, |value: i128, byte| (value << 8) | i128::from(*byte));
    let dropped = i32::try_from(digits.len() - kept).unwrap_or(i32::MAX);
    head as f64 * 256f64.powi(dropped) / divisor
}
