impl Sample for Colour {
    fn sample(pick: &mut Pick) -> Self {
        Self(pick.one_of(&[0, 1, 16]))
    }
}

impl Sample for Scalars {
    fn sample(pick: &mut Pick) -> Self {
        Self {
            c: pick.char(),
            uc: pick.uchar(),
            s: pick.short(),
            us: pick.ushort(),
            i: pick.i32(),
            ui: pick.u32(),
            u: pick.u32(),
            h: pick.i64(),
            uh: pick.u64(),
            d: pick.f64(),
            b: pick.bool(),
        }
    }
}

impl Sample for Shapes {
    fn sample(pick: &mut Pick) -> Self {
        Self {
            name: pick.string(DEMO_STRING_MAX),
            r#type: pick.optional(|pick| pick.string(DEMO_STRING_MAX)),
            uuid: pick.fixed(),
            data: pick.opaque(16),
            rest: pick.opaque(4294967295),
            colour: Colour::sample(pick),
            label: std::array::from_fn(|_| pick.char()),
            cells: pick.list(DEMO_STRING_MAX, Pick::i64),
            names: pick.list(3, |pick| pick.string(DEMO_STRING_MAX)),
            scalars: pick.optional(Scalars::sample),
            dom: crate::remote::NonnullDomain::sample(pick),
        }
    }
}

impl Sample for Value {
    fn sample(pick: &mut Pick) -> Self {
        match pick.below(3) {
            0 => Self::Int(pick.i32()),
            1 => Self::String(pick.string(DEMO_STRING_MAX)),
            _ => Self::Case8,
        }
    }
}

impl Sample for Param {
    fn sample(pick: &mut Pick) -> Self {
        Self {
            field: pick.string(DEMO_STRING_MAX),
            value: Value::sample(pick),
        }
    }
}

impl Sample for GetArgs {
    fn sample(pick: &mut Pick) -> Self {
        Self {
            dom: crate::remote::NonnullDomain::sample(pick),
            flags: pick.u32(),
        }
    }
}

impl Sample for GetRet {
    fn sample(pick: &mut Pick) -> Self {
        Self {
            shapes: Shapes::sample(pick),
        }
    }
}

impl Sample for ListArgs {
    fn sample(pick: &mut Pick) -> Self {
        Self {
            need_results: pick.i32(),
            flags: pick.u32(),
        }
    }
}

impl Sample for ListRet {
    fn sample(pick: &mut Pick) -> Self {
        Self {
            params: pick.list(DEMO_STRING_MAX, Param::sample),
            ret: pick.i32(),
        }
    }
}

impl Sample for SetArgs {
    fn sample(pick: &mut Pick) -> Self {
        Self {
            params: pick.list(4, Param::sample),
            source: pick.u32(),
        }
    }
}

impl Sample for DownloadArgs {
    fn sample(pick: &mut Pick) -> Self {
        Self {
            path: pick.string(DEMO_STRING_MAX),
            flags: pick.u32(),
        }
    }
}

impl Sample for UploadArgs {
    fn sample(pick: &mut Pick) -> Self {
        Self {
            path: pick.string(DEMO_STRING_MAX),
        }
    }
}

impl Sample for OpenFdArgs {
    fn sample(pick: &mut Pick) -> Self {
        Self { index: pick.i32() }
    }
}

impl Sample for TakeFdsRet {
    fn sample(pick: &mut Pick) -> Self {
        Self { count: pick.i32() }
    }
}

impl Sample for EventChangedMsg {
    fn sample(pick: &mut Pick) -> Self {
        Self {
            dom: crate::remote::NonnullDomain::sample(pick),
            reason: pick.i32(),
        }
    }
}

impl Sample for EventCallbackChangedMsg {
    fn sample(pick: &mut Pick) -> Self {
        Self {
            callback_id: pick.i32(),
            msg: EventChangedMsg::sample(pick),
        }
    }
}

/// One row per type: how to draw, encode, decode and pack it, and where its limits are.
pub fn samples() -> Vec<Row> {
    Vec::from([
        Row::of::<Colour>("demo_colour", &[]),
        Row::of::<Scalars>("demo_scalars", &[]),
        Row::of::<
            Shapes,
        >(
            "demo_shapes",
            &[
                FieldLimit {
                    field: "name",
                    limit: 65536,
                    #[allow(unused_variables)]
                    before: |pick, out| {
                        let value = Shapes::sample(pick);
                        Ok(())
                    },
                    #[allow(unused_variables)]
                    over: |pick| {
                        let value = Shapes {
                            name: vec![b'a'; 65537].into(),
                            ..Default::default()
                        };
                        codec::encode(&value)
                    },
                },
                FieldLimit {
                    field: "type",
                    limit: 65536,
                    #[allow(unused_variables)]
                    before: |pick, out| {
                        let value = Shapes::sample(pick);
                        codec::put_opaque(out, value.name.as_bytes(), DEMO_STRING_MAX)?;
                        codec::put_bool(out, true);
                        Ok(())
                    },
                    #[allow(unused_variables)]
                    over: |pick| {
                        let value = Shapes {
                            r#type: Some(vec![b'a'; 65537].into()),
                            ..Default::default()
                        };
                        codec::encode(&value)
                    },
                },
                FieldLimit {
                    field: "data",
                    limit: 16,
                    #[allow(unused_variables)]
                    before: |pick, out| {
                        let value = Shapes::sample(pick);
                        codec::put_opaque(out, value.name.as_bytes(), DEMO_STRING_MAX)?;
                        codec::put_bool(out, value.r#type.is_some());
                        if let Some(value) = &value.r#type {
                            codec::put_opaque(out, value.as_bytes(), DEMO_STRING_MAX)?;
                        }
                        codec::put_fixed(out, &value.uuid);
                        Ok(())
                    },
                    #[allow(unused_variables)]
                    over: |pick| {
                        let value = Shapes {
                            data: vec![0; 17],
                            ..Default::default()
                        };
                        codec::encode(&value)
                    },
                },
                FieldLimit {
                    field: "cells",
                    limit: 65536,
                    #[allow(unused_variables)]
                    before: |pick, out| {
                        let value = Shapes::sample(pick);
                        codec::put_opaque(out, value.name.as_bytes(), DEMO_STRING_MAX)?;
                        codec::put_bool(out, value.r#type.is_some());
                        if let Some(value) = &value.r#type {
                            codec::put_opaque(out, value.as_bytes(), DEMO_STRING_MAX)?;
                        }
                        codec::put_fixed(out, &value.uuid);
                        codec::put_opaque(out, &value.data, 16)?;
                        codec::put_opaque(out, &value.rest, 4294967295)?;
                        value.colour.encode(out)?;
                        for value in &value.label {
                            codec::put_char(out, *value);
                        }
                        Ok(())
                    },
                    #[allow(unused_variables)]
                    over: |pick| {
                        let value = Shapes {
                            cells: vec![pick.i64(); 65537],
                            ..Default::default()
                        };
                        codec::encode(&value)
                    },
                },
                FieldLimit {
                    field: "names",
                    limit: 3,
                    #[allow(unused_variables)]
                    before: |pick, out| {
                        let value = Shapes::sample(pick);
                        codec::put_opaque(out, value.name.as_bytes(), DEMO_STRING_MAX)?;
                        codec::put_bool(out, value.r#type.is_some());
                        if let Some(value) = &value.r#type {
                            codec::put_opaque(out, value.as_bytes(), DEMO_STRING_MAX)?;
                        }
                        codec::put_fixed(out, &value.uuid);
                        codec::put_opaque(out, &value.data, 16)?;
                        codec::put_opaque(out, &value.rest, 4294967295)?;
                        value.colour.encode(out)?;
                        for value in &value.label {
                            codec::put_char(out, *value);
                        }
                        codec::put_count(out, value.cells.len(), DEMO_STRING_MAX)?;
                        for value in &value.cells {
                            codec::put_i64(out, *value);
                        }
                        Ok(())
                    },
                    #[allow(unused_variables)]
                    over: |pick| {
                        let value = Shapes {
                            names: vec![pick.string(DEMO_STRING_MAX); 4],
                            ..Default::default()
                        };
                        codec::encode(&value)
                    },
                },
                FieldLimit {
                    field: "names",
                    limit: 65536,
                    #[allow(unused_variables)]
                    before: |pick, out| {
                        let value = Shapes::sample(pick);
                        codec::put_opaque(out, value.name.as_bytes(), DEMO_STRING_MAX)?;
                        codec::put_bool(out, value.r#type.is_some());
                        if let Some(value) = &value.r#type {
                            codec::put_opaque(out, value.as_bytes(), DEMO_STRING_MAX)?;
                        }
                        codec::put_fixed(out, &value.uuid);
                        codec::put_opaque(out, &value.data, 16)?;
                        codec::put_opaque(out, &value.rest, 4294967295)?;
                        value.colour.encode(out)?;
                        for value in &value.label {
                            codec::put_char(out, *value);
                        }
                        codec::put_count(out, value.cells.len(), DEMO_STRING_MAX)?;
                        for value in &value.cells {
                            codec::put_i64(out, *value);
                        }
                        codec::put_u32(out, 1);
                        Ok(())
                    },
                    #[allow(unused_variables)]
                    over: |pick| {
                        let value = Shapes {
                            names: vec![vec![b'a'; 65537] .into()],
                            ..Default::default()
                        };
                        codec::encode(&value)
                    },
                },
            ],
        ),
        Row::of::<
            Value,
        >(
            "demo_value",
            &[
                FieldLimit {
                    field: "s",
                    limit: 65536,
                    #[allow(unused_variables)]
                    before: |pick, out| {
                        codec::put_i32(out, 7);
                        Ok(())
                    },
                    #[allow(unused_variables)]
                    over: |pick| {
                        let value = Value::String(vec![b'a'; 65537].into());
                        codec::encode(&value)
                    },
                },
            ],
        ),
        Row::of::<
            Param,
        >(
            "demo_param",
            &[
                FieldLimit {
                    field: "field",
                    limit: 65536,
                    #[allow(unused_variables)]
                    before: |pick, out| {
                        let value = Param::sample(pick);
                        Ok(())
                    },
                    #[allow(unused_variables)]
                    over: |pick| {
                        let value = Param {
                            field: vec![b'a'; 65537].into(),
                            ..Default::default()
                        };
                        codec::encode(&value)
                    },
                },
            ],
        ),
        Row::of::<GetArgs>("demo_get_args", &[]),
        Row::of::<GetRet>("demo_get_ret", &[]),
        Row::of::<ListArgs>("demo_list_args", &[]),
        Row::of::<
            ListRet,
        >(
            "demo_list_ret",
            &[
                FieldLimit {
                    field: "params",
                    limit: 65536,
                    #[allow(unused_variables)]
                    before: |pick, out| {
                        let value = ListRet::sample(pick);
                        Ok(())
                    },
                    #[allow(unused_variables)]
                    over: |pick| {
                        let value = ListRet {
                            params: vec![Param::sample(pick); 65537],
                            ..Default::default()
                        };
                        codec::encode(&value)
                    },
                },
            ],
        ),
        Row::of::<
            SetArgs,
        >(
            "demo_set_args",
            &[
                FieldLimit {
                    field: "params",
                    limit: 4,
                    #[allow(unused_variables)]
                    before: |pick, out| {
                        let value = SetArgs::sample(pick);
                        Ok(())
                    },
                    #[allow(unused_variables)]
                    over: |pick| {
                        let value = SetArgs {
                            params: vec![Param::sample(pick); 5],
                            ..Default::default()
                        };
                        codec::encode(&value)
                    },
                },
            ],
        ),
        Row::of::<
            DownloadArgs,
        >(
            "demo_download_args",
            &[
                FieldLimit {
                    field: "path",
                    limit: 65536,
                    #[allow(unused_variables)]
                    before: |pick, out| {
                        let value = DownloadArgs::sample(pick);
                        Ok(())
                    },
                    #[allow(unused_variables)]
                    over: |pick| {
                        let value = DownloadArgs {
                            path: vec![b'a'; 65537].into(),
                            ..Default::default()
                        };
                        codec::encode(&value)
                    },
                },
            ],
        ),
        Row::of::<
            UploadArgs,
        >(
            "demo_upload_args",
            &[
                FieldLimit {
                    field: "path",
                    limit: 65536,
                    #[allow(unused_variables)]
                    before: |pick, out| {
                        let value = UploadArgs::sample(pick);
                        Ok(())
                    },
                    #[allow(unused_variables)]
                    over: |pick| {
                        let value = UploadArgs {
                            path: vec![b'a'; 65537].into(),
                        };
                        codec::encode(&value)
                    },
                },
            ],
        ),
        Row::of::<OpenFdArgs>("demo_open_fd_args", &[]),
        Row::of::<TakeFdsRet>("demo_take_fds_ret", &[]),
        Row::of::<EventChangedMsg>("demo_event_changed_msg", &[]),
        Row::of::<EventCallbackChangedMsg>("demo_event_callback_changed_msg", &[]),
    ])
}
