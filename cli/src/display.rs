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
