//! Writes the synthetic surface inspection set of `scripts/surfaces`: folders in the layout of
//! MVTec AD.
//!
//! Usage: surfaces FOLDER --train N --good N --defects N --seed N

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Parser;
use image::GrayImage;
use outlierd::sim::surface::{DefectKind, SIDE, Texture, picture};

/// Pictures of simulated surfaces, with defects whose places are known.
#[derive(Parser)]
struct Args {
    /// Folder to write to
    folder: PathBuf,
    /// Good pictures to learn from, for each texture
    #[arg(long, default_value_t = 200)]
    train: u64,
    /// Good pictures to judge
    #[arg(long, default_value_t = 100)]
    good: u64,
    /// Pictures to judge with a defect of each kind
    #[arg(long, default_value_t = 50)]
    defects: u64,
    /// The same seed gives the same pictures
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if args.folder.exists() {
        bail!("{} exists: name a new folder", args.folder.display());
    }
    for texture in Texture::ALL {
        let folder = args.folder.join(texture.as_str());
        let mut number = 0;
        let mut write = |path: &str,
                         defect: Option<DefectKind>,
                         count: u64,
                         masks: bool|
         -> anyhow::Result<()> {
            for at in 0..count {
                let surface = picture(texture, defect, args.seed, number);
                number += 1;
                save(
                    &folder.join(path).join(format!("{at:03}.png")),
                    surface.pixels,
                )?;
                if masks {
                    let mask = surface
                        .defective
                        .iter()
                        .map(|&is| if is { 255 } else { 0 })
                        .collect();
                    let name = path.replace("test", "ground_truth");
                    save(&folder.join(name).join(format!("{at:03}_mask.png")), mask)?;
                }
            }
            Ok(())
        };
        write("train/good", None, args.train, false)?;
        write("test/good", None, args.good, false)?;
        for kind in DefectKind::ALL {
            write(
                &format!("test/{}", kind.as_str()),
                Some(kind),
                args.defects,
                true,
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn save(path: &Path, pixels: Vec<u8>) -> anyhow::Result<()> {
    let folder = path.parent().context("a file is in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let picture =
        GrayImage::from_raw(SIDE as u32, SIDE as u32, pixels).context("a picture has its size")?;
    picture
        .save(path)
        .with_context(|| format!("cannot write {}", path.display()))
}
