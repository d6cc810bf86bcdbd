/// The shapes of this module's types.
pub mod schema {
    #[allow(unused_imports)]
    use crate::schema::{EnumDef, StructDef, Ty, UnionDef};

    /// `demo_colour`
    pub static COLOUR: EnumDef = EnumDef {
        name: "demo_colour",
        members: &[
            ("DEMO_COLOUR_RED", 0),
            ("DEMO_COLOUR_GREEN", 1),
            ("DEMO_COLOUR_BLUE", 16),
        ],
    };

    /// `demo_scalars`
    pub static SCALARS: StructDef = StructDef {
        name: "demo_scalars",
        fields: &[
            ("c", Ty::Char),
            ("uc", Ty::Uchar),
            ("s", Ty::Short),
            ("us", Ty::Ushort),
            ("i", Ty::I32),
            ("ui", Ty::U32),
            ("u", Ty::U32),
            ("h", Ty::I64),
            ("uh", Ty::U64),
            ("d", Ty::F64),
            ("b", Ty::Bool),
        ],
    };

    /// `demo_shapes`
    pub static SHAPES: StructDef = StructDef {
        name: "demo_shapes",
        fields: &[
            ("name", Ty::String(65536)),
            ("type", Ty::Optional(&Ty::String(65536))),
            ("uuid", Ty::FixedOpaque(16)),
            ("data", Ty::Opaque(16)),
            ("rest", Ty::Opaque(4294967295)),
            ("colour", Ty::Enum(&COLOUR)),
            ("label", Ty::FixedArray(&Ty::Char, 4)),
            ("cells", Ty::Array(&Ty::I64, 65536)),
            ("names", Ty::Array(&Ty::String(65536), 3)),
            ("scalars", Ty::Optional(&Ty::Struct(&SCALARS))),
            ("dom", Ty::Struct(&crate::remote::schema::NONNULL_DOMAIN)),
        ],
    };

    /// `demo_value`
    pub static VALUE: UnionDef = UnionDef {
        name: "demo_value",
        arms: &[
            (1, Some(("i", Ty::I32))),
            (7, Some(("s", Ty::String(65536)))),
            (8, None),
        ],
    };

    /// `demo_param`
    pub static PARAM: StructDef = StructDef {
        name: "demo_param",
        fields: &[("field", Ty::String(65536)), ("value", Ty::Union(&VALUE))],
    };

    /// `demo_get_args`
    pub static GET_ARGS: StructDef = StructDef {
        name: "demo_get_args",
        fields: &[
            ("dom", Ty::Struct(&crate::remote::schema::NONNULL_DOMAIN)),
            ("flags", Ty::U32),
        ],
    };

    /// `demo_get_ret`
    pub static GET_RET: StructDef = StructDef {
        name: "demo_get_ret",
        fields: &[("shapes", Ty::Struct(&SHAPES))],
    };

    /// `demo_list_args`
    pub static LIST_ARGS: StructDef = StructDef {
        name: "demo_list_args",
        fields: &[("need_results", Ty::I32), ("flags", Ty::U32)],
    };

    /// `demo_list_ret`
    pub static LIST_RET: StructDef = StructDef {
        name: "demo_list_ret",
        fields: &[("params", Ty::Array(&Ty::Struct(&PARAM), 65536)), ("ret", Ty::I32)],
    };

    /// `demo_set_args`
    pub static SET_ARGS: StructDef = StructDef {
        name: "demo_set_args",
        fields: &[("params", Ty::Array(&Ty::Struct(&PARAM), 4)), ("source", Ty::U32)],
    };

    /// `demo_download_args`
    pub static DOWNLOAD_ARGS: StructDef = StructDef {
        name: "demo_download_args",
        fields: &[("path", Ty::String(65536)), ("flags", Ty::U32)],
    };

    /// `demo_upload_args`
    pub static UPLOAD_ARGS: StructDef = StructDef {
        name: "demo_upload_args",
        fields: &[("path", Ty::String(65536))],
    };

    /// `demo_open_fd_args`
    pub static OPEN_FD_ARGS: StructDef = StructDef {
        name: "demo_open_fd_args",
        fields: &[("index", Ty::I32)],
    };

    /// `demo_take_fds_ret`
    pub static TAKE_FDS_RET: StructDef = StructDef {
        name: "demo_take_fds_ret",
        fields: &[("count", Ty::I32)],
    };

    /// `demo_event_changed_msg`
    pub static EVENT_CHANGED_MSG: StructDef = StructDef {
        name: "demo_event_changed_msg",
        fields: &[
            ("dom", Ty::Struct(&crate::remote::schema::NONNULL_DOMAIN)),
            ("reason", Ty::I32),
        ],
    };

    /// `demo_event_callback_changed_msg`
    pub static EVENT_CALLBACK_CHANGED_MSG: StructDef = StructDef {
        name: "demo_event_callback_changed_msg",
        fields: &[("callbackID", Ty::I32), ("msg", Ty::Struct(&EVENT_CHANGED_MSG))],
    };
}
