//! A linked image for a microcontroller: how much it takes, and what is in it.

use std::{fs, path::Path};

use object::{
    Object, ObjectSection, ObjectSymbol, SectionFlags, SymbolKind,
    elf::{SHF_ALLOC, SHF_WRITE, SHT_NOBITS},
    read::elf::ElfFile32,
};

use crate::shell::{Error, Result};

/// What an image takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// Bytes of flash: code, constants, and what variables are at first.
    pub(crate) flash: u64,
    /// Bytes of RAM, without the stack.
    pub(crate) ram: u64,
}

/// An ELF file of 32 bits.
#[derive(Debug)]
pub(crate) struct Image {
    bytes: Vec<u8>,
    path: String,
}

impl Image {
    /// Reads the file.
    ///
    /// # Errors
    /// It can't be read.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(Error::file(path))?;
        Ok(Self { bytes, path: path.display().to_string() })
    }

    fn elf(&self) -> Result<ElfFile32<'_>> {
        ElfFile32::parse(self.bytes.as_slice())
            .map_err(|error| Error::Told(format!("{} is not a 32-bit ELF file: {error}", self.path)))
    }

    /// What its sections take.
    ///
    /// # Errors
    /// It is no such file.
    pub(crate) fn size(&self) -> Result<Size> {
        let mut size = Size::default();
        for section in self.elf()?.sections() {
            let SectionFlags::Elf { sh_flags, sh_type, .. } = section.flags() else { continue };
            // What some linker scripts leave to the stack.
            if section.name() == Ok(".stack") {
                continue;
            }
            let is_loaded = sh_flags.contains(SHF_ALLOC);
            if is_loaded && sh_type != SHT_NOBITS {
                size.flash += section.size();
            }
            if is_loaded && sh_flags.contains(SHF_WRITE) {
                size.ram += section.size();
            }
        }
        Ok(size)
    }

    /// The functions by which it may panic, but for `panic_fmt`, which all of them call.
    ///
    /// # Errors
    /// It is no such file.
    pub(crate) fn panics(&self) -> Result<Vec<String>> {
        let elf = self.elf()?;
        let names = elf.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text);
        // Mangled, in either way: the crate's name stands behind its length.
        let core = names.filter_map(|symbol| symbol.name().ok()).filter(|name| name.contains("4core"));
        let panics = core.filter(|name| name.contains("panic") || name.contains("fail"));
        Ok(panics.filter(|name| !name.contains("panic_fmt")).map(str::to_owned).collect())
    }
}
