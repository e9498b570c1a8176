use super::*;

fn shape(
    kind: ModelKind,
    window: usize,
    fields: usize,
    hidden: &[usize],
    latent: usize,
) -> ModelShape {
    ModelShape {
        hidden: hidden.to_vec(),
        ..ModelShape::new(kind, window, fields, hidden, latent)
    }
}

#[test]
fn reference_shapes_are_valid() {
    shape(ModelKind::Dense, 1, 8, &[16], 2).validate().unwrap();
    shape(ModelKind::Dense, 20, 8, &[64, 32], 4)
        .validate()
        .unwrap();
    shape(ModelKind::Linear, 1, 8, &[], 7).validate().unwrap();
    shape(ModelKind::Linear, 1, 1, &[], 0).validate().unwrap();
    assert_eq!(
        shape(ModelKind::Dense, 1, 8, &[16, 5], 2).encoder_widths(),
        [8, 16, 5, 2]
    );
}

#[test]
fn each_bad_size_is_named_with_what_is_allowed() {
    let cases = [
        (
            shape(ModelKind::Dense, 0, 8, &[], 1),
            "gives 0 inputs; allowed are 1 to 4096",
        ),
        (
            shape(ModelKind::Dense, usize::MAX, 2, &[], 1),
            "allowed are 1 to 4096",
        ),
        (
            shape(ModelKind::Dense, 1, 8, &[16, 0], 2),
            "hidden layer 1 has width 0; allowed are 1 to 4096",
        ),
        (
            shape(ModelKind::Dense, 1, 8, &[1; 9], 2),
            "9 hidden layers; allowed are 0 to 8",
        ),
        (
            shape(ModelKind::Dense, 1, 8, &[16], 0),
            "latent 0 of a dense model with 8 inputs; allowed are 1 to 7",
        ),
        (
            shape(ModelKind::Dense, 1, 8, &[16], 8),
            "allowed are 1 to 7",
        ),
        (
            shape(ModelKind::Dense, 1, 1, &[16], 1),
            "window of 2 or more",
        ),
        (
            shape(ModelKind::Linear, 1, 8, &[], 8),
            "latent 8 of a linear model with 8 inputs; allowed are 0 to 7",
        ),
        (
            shape(ModelKind::Linear, 1, 8, &[16], 2),
            "choose kind dense",
        ),
    ];
    for (shape, part) in cases {
        let message = shape.validate().unwrap_err().to_string();
        assert!(
            message.contains(part),
            "{message:?} does not contain {part:?}"
        );
    }
}
