//! Tables and sizes, as commands print them.

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};

/// A table with a header: the first column to the left, the others to the right.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    let line = LineStyle::none().fill('─').junction('─');
    table.load_style(TableStyle::new().header_separator(line)).set_header(header.to_vec());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The same table in markdown: the first column to the left, the others to the right.
pub(crate) fn markdown(mut table: Table) -> String {
    table.load_style(ASCII_MARKDOWN);
    let text = table.to_string();
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let separator = lines.next().unwrap_or_default();
    // The line that separates the header also tells how columns are aligned.
    let aligned = separator.replace("-|", ":|").replacen(":|", "-|", 1);
    [header, &aligned].into_iter().chain(lines).collect::<Vec<_>>().join("\n")
}

/// Bytes in the unit that suits them.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..0x10_0000 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        0x10_0000..0x4000_0000 => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

/// Parses a number of bytes with a unit.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("expected a size, as 2MB, 900KiB or 1500000, got {text:?}");
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Ok((number * unit) as u64)
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("2MB"), Ok(2_000_000));
        assert_eq!(size("1.5 KiB"), Ok(1536));
        assert_eq!(size("4GiB"), Ok(4 << 30));
        assert_eq!(size("77"), Ok(77));
        for wrong in ["", "MB", "2GBit", "-1"] {
            assert!(size(wrong).is_err(), "{wrong:?}");
        }
    }
}
