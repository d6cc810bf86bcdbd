#[allow(unused_imports)]
use crate::codec::{
    self, Decode, DecodeError, Encode, EncodeError, Reader, XdrStr, XdrString,
};

#[cfg(feature = "xdr-codec")]
#[allow(unused_imports)]
use xdr_codec::Pack as _;

/// `const DEMO_STRING_MAX = 65536`
pub const DEMO_STRING_MAX: u32 = 65536;
/// `const DEMO_PROGRAM = 536875572`
pub const DEMO_PROGRAM: u32 = 536875572;
/// `const DEMO_PROTOCOL_VERSION = 1`
pub const DEMO_PROTOCOL_VERSION: u32 = 1;
/// `typedef string demo_nonnull_string<DEMO_STRING_MAX = 65536>`
pub type NonnullString = XdrString;
/// `typedef opaque demo_uuid[16]`
pub type Uuid = [u8; 16];
/// `enum demo_colour`. Unknown values pass through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Colour(pub i32);

impl Colour {
    /// `DEMO_COLOUR_RED`
    pub const RED: Self = Self(0);
    /// `DEMO_COLOUR_GREEN`
    pub const GREEN: Self = Self(1);
    /// `DEMO_COLOUR_BLUE`
    pub const BLUE: Self = Self(16);
    /// The member's name, if the value is known.
    pub const fn name(self) -> Option<&'static str> {
        match self.0 {
            0 => Some("RED"),
            1 => Some("GREEN"),
            16 => Some("BLUE"),
            _ => None,
        }
    }
}

impl Encode for Colour {
    fn encoded_len(&self) -> usize {
        4
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        codec::put_i32(out, self.0);
        Ok(())
    }
}

impl<'a> Decode<'a> for Colour {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.i32().map(Self)
    }
}

#[cfg(feature = "xdr-codec")]
impl<W: std::io::Write> xdr_codec::Pack<W> for Colour {
    #[allow(unused_variables)]
    fn pack(&self, out: &mut W) -> xdr_codec::Result<usize> {
        self.0.pack(out)
    }
}

#[cfg(feature = "xdr-codec")]
impl xdr_codec::Unpack<Reader<'_>> for Colour {
    fn unpack(reader: &mut Reader<'_>) -> xdr_codec::Result<(Self, usize)> {
        codec::unpack(reader)
    }
}

/// `struct demo_scalars`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scalars {
    /// `char c`
    pub c: u8,
    /// `unsigned char uc`
    pub uc: u8,
    /// `short s`
    pub s: i16,
    /// `unsigned short us`
    pub us: u16,
    /// `int i`
    pub i: i32,
    /// `unsigned int ui`
    pub ui: u32,
    /// `unsigned int u`
    pub u: u32,
    /// `hyper h`
    pub h: i64,
    /// `unsigned hyper uh`
    pub uh: u64,
    /// `double d`
    pub d: f64,
    /// `bool b`
    pub b: bool,
}

impl Encode for Scalars {
    fn encoded_len(&self) -> usize {
        4 + 4 + 4 + 4 + 4 + 4 + 4 + 8 + 8 + 8 + 4
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        codec::put_char(out, self.c);
        codec::put_uchar(out, self.uc);
        codec::put_short(out, self.s);
        codec::put_ushort(out, self.us);
        codec::put_i32(out, self.i);
        codec::put_u32(out, self.ui);
        codec::put_u32(out, self.u);
        codec::put_i64(out, self.h);
        codec::put_u64(out, self.uh);
        codec::put_f64(out, self.d);
        codec::put_bool(out, self.b);
        Ok(())
    }
}

impl<'a> Decode<'a> for Scalars {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let reader = &mut reader.part(56)?;
        Ok(Self {
            c: reader.char()?,
            uc: reader.uchar()?,
            s: reader.short()?,
            us: reader.ushort()?,
            i: reader.i32()?,
            ui: reader.u32()?,
            u: reader.u32()?,
            h: reader.i64()?,
            uh: reader.u64()?,
            d: reader.f64()?,
            b: reader.bool()?,
        })
    }
}

#[cfg(feature = "xdr-codec")]
impl<W: std::io::Write> xdr_codec::Pack<W> for Scalars {
    #[allow(unused_variables)]
    fn pack(&self, out: &mut W) -> xdr_codec::Result<usize> {
        Ok(
            i32::from(self.c as i8).pack(out)? + u32::from(self.uc).pack(out)?
                + i32::from(self.s).pack(out)? + u32::from(self.us).pack(out)?
                + self.i.pack(out)? + self.ui.pack(out)? + self.u.pack(out)?
                + self.h.pack(out)? + self.uh.pack(out)? + self.d.pack(out)?
                + self.b.pack(out)?,
        )
    }
}

#[cfg(feature = "xdr-codec")]
impl xdr_codec::Unpack<Reader<'_>> for Scalars {
    fn unpack(reader: &mut Reader<'_>) -> xdr_codec::Result<(Self, usize)> {
        codec::unpack(reader)
    }
}

/// `struct demo_shapes`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shapes {
    /// `string name<DEMO_STRING_MAX = 65536>`
    pub name: XdrString,
    /// `string<DEMO_STRING_MAX = 65536> *type`
    pub r#type: Option<XdrString>,
    /// `opaque uuid[16]`
    pub uuid: [u8; 16],
    /// `opaque data<16>`
    pub data: Vec<u8>,
    /// `opaque rest<>`
    pub rest: Vec<u8>,
    /// `demo_colour colour`
    pub colour: Colour,
    /// `char label[4]`
    pub label: [u8; 4],
    /// `hyper cells<DEMO_STRING_MAX = 65536>`
    pub cells: Vec<i64>,
    /// `string<DEMO_STRING_MAX = 65536> names<3>`
    pub names: Vec<XdrString>,
    /// `demo_scalars *scalars`
    pub scalars: Option<Scalars>,
    /// `remote_nonnull_domain dom`
    pub dom: crate::remote::NonnullDomain,
}

impl Encode for Shapes {
    fn encoded_len(&self) -> usize {
        codec::opaque_len(self.name.len()) + 4
            + self.r#type.as_ref().map_or(0, |value| codec::opaque_len(value.len())) + 16
            + codec::opaque_len(self.data.len()) + codec::opaque_len(self.rest.len()) + 4
            + 16 + 4 + 8 * self.cells.len() + 4
            + self
                .names
                .iter()
                .map(|value| codec::opaque_len(value.len()))
                .sum::<usize>() + 4 + self.scalars.as_ref().map_or(0, |_| 56)
            + self.dom.encoded_len()
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        codec::put_opaque(out, self.name.as_bytes(), DEMO_STRING_MAX)?;
        codec::put_bool(out, self.r#type.is_some());
        if let Some(value) = &self.r#type {
            codec::put_opaque(out, value.as_bytes(), DEMO_STRING_MAX)?;
        }
        codec::put_fixed(out, &self.uuid);
        codec::put_opaque(out, &self.data, 16)?;
        codec::put_opaque(out, &self.rest, 4294967295)?;
        self.colour.encode(out)?;
        for value in &self.label {
            codec::put_char(out, *value);
        }
        codec::put_count(out, self.cells.len(), DEMO_STRING_MAX)?;
        for value in &self.cells {
            codec::put_i64(out, *value);
        }
        codec::put_count(out, self.names.len(), 3)?;
        for value in &self.names {
            codec::put_opaque(out, value.as_bytes(), DEMO_STRING_MAX)?;
        }
        codec::put_bool(out, self.scalars.is_some());
        if let Some(value) = &self.scalars {
            value.encode(out)?;
        }
        self.dom.encode(out)?;
        Ok(())
    }
}

impl<'a> Decode<'a> for Shapes {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: reader.string(DEMO_STRING_MAX)?,
            r#type: reader.optional(|reader| reader.string(DEMO_STRING_MAX))?,
            uuid: reader.fixed()?,
            data: reader.opaque(16)?,
            rest: reader.opaque(4294967295)?,
            colour: Colour::decode(reader)?,
            label: reader.array(Reader::char)?,
            cells: reader.list(DEMO_STRING_MAX, 8, Reader::i64)?,
            names: reader.list(3, 4, |reader| reader.string(DEMO_STRING_MAX))?,
            scalars: reader.optional(Scalars::decode)?,
            dom: crate::remote::NonnullDomain::decode(reader)?,
        })
    }
}

#[cfg(feature = "xdr-codec")]
impl<W: std::io::Write> xdr_codec::Pack<W> for Shapes {
    #[allow(unused_variables)]
    fn pack(&self, out: &mut W) -> xdr_codec::Result<usize> {
        Ok(
            self.name.pack(out)? + self.r#type.pack(out)?
                + xdr_codec::pack_opaque_array(&self.uuid, 16, out)?
                + xdr_codec::pack_opaque_flex(&self.data, None, out)?
                + xdr_codec::pack_opaque_flex(&self.rest, None, out)?
                + self.colour.pack(out)?
                + self
                    .label
                    .iter()
                    .try_fold(
                        0,
                        |sum, value| xdr_codec::Result::Ok(
                            sum + i32::from((*value) as i8).pack(out)?,
                        ),
                    )? + self.cells.pack(out)? + self.names.pack(out)?
                + self.scalars.pack(out)? + self.dom.pack(out)?,
        )
    }
}

#[cfg(feature = "xdr-codec")]
impl xdr_codec::Unpack<Reader<'_>> for Shapes {
    fn unpack(reader: &mut Reader<'_>) -> xdr_codec::Result<(Self, usize)> {
        codec::unpack(reader)
    }
}

/// `union demo_value switch (int type)`
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Value {
    /// `case VIR_TYPED_PARAM_INT: int i`
    Int(i32),
    /// `case VIR_TYPED_PARAM_STRING: string s<DEMO_STRING_MAX = 65536>`
    String(XdrString),
    /// `case 8: void`
    Case8,
}

impl Default for Value {
    fn default() -> Self {
        Self::Int(Default::default())
    }
}

impl Encode for Value {
    fn encoded_len(&self) -> usize {
        4
            + match self {
                Self::Int(_) => 4,
                Self::String(value) => codec::opaque_len(value.len()),
                Self::Case8 => 0,
            }
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Self::Int(value) => {
                codec::put_i32(out, 1);
                codec::put_i32(out, *value);
            }
            Self::String(value) => {
                codec::put_i32(out, 7);
                codec::put_opaque(out, value.as_bytes(), DEMO_STRING_MAX)?;
            }
            Self::Case8 => {
                codec::put_i32(out, 8);
            }
        }
        Ok(())
    }
}

impl<'a> Decode<'a> for Value {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match reader.i32()? {
            1 => reader.i32().map(Self::Int),
            7 => reader.string(DEMO_STRING_MAX).map(Self::String),
            8 => Ok(Self::Case8),
            other => Err(DecodeError::Discriminant(other)),
        }
    }
}

#[cfg(feature = "xdr-codec")]
impl<W: std::io::Write> xdr_codec::Pack<W> for Value {
    #[allow(unused_variables)]
    fn pack(&self, out: &mut W) -> xdr_codec::Result<usize> {
        match self {
            Self::Int(value) => Ok(i32::pack(&1, out)? + (*value).pack(out)?),
            Self::String(value) => Ok(i32::pack(&7, out)? + value.pack(out)?),
            Self::Case8 => i32::pack(&8, out),
        }
    }
}

#[cfg(feature = "xdr-codec")]
impl xdr_codec::Unpack<Reader<'_>> for Value {
    fn unpack(reader: &mut Reader<'_>) -> xdr_codec::Result<(Self, usize)> {
        codec::unpack(reader)
    }
}

/// `union demo_value switch (int type)`
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ValueRef<'a> {
    /// `case VIR_TYPED_PARAM_INT: int i`
    Int(i32),
    /// `case VIR_TYPED_PARAM_STRING: string s<DEMO_STRING_MAX = 65536>`
    String(XdrStr<'a>),
    /// `case 8: void`
    Case8,
}

impl<'a> Default for ValueRef<'a> {
    fn default() -> Self {
        Self::Int(Default::default())
    }
}

impl<'a> Decode<'a> for ValueRef<'a> {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match reader.i32()? {
            1 => reader.i32().map(Self::Int),
            7 => reader.str(DEMO_STRING_MAX).map(Self::String),
            8 => Ok(Self::Case8),
            other => Err(DecodeError::Discriminant(other)),
        }
    }
}

/// `struct demo_param`
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Param {
    /// `string field<DEMO_STRING_MAX = 65536>`
    pub field: XdrString,
    /// `demo_value value`
    pub value: Value,
}

impl Encode for Param {
    fn encoded_len(&self) -> usize {
        codec::opaque_len(self.field.len()) + self.value.encoded_len()
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        codec::put_opaque(out, self.field.as_bytes(), DEMO_STRING_MAX)?;
        self.value.encode(out)?;
        Ok(())
    }
}

impl<'a> Decode<'a> for Param {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            field: reader.string(DEMO_STRING_MAX)?,
            value: Value::decode(reader)?,
        })
    }
}

#[cfg(feature = "xdr-codec")]
impl<W: std::io::Write> xdr_codec::Pack<W> for Param {
    #[allow(unused_variables)]
    fn pack(&self, out: &mut W) -> xdr_codec::Result<usize> {
        Ok(self.field.pack(out)? + self.value.pack(out)?)
    }
}

#[cfg(feature = "xdr-codec")]
impl xdr_codec::Unpack<Reader<'_>> for Param {
    fn unpack(reader: &mut Reader<'_>) -> xdr_codec::Result<(Self, usize)> {
        codec::unpack(reader)
    }
}

/// `struct demo_param`, borrowed from its message.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ParamRef<'a> {
    /// `string field<DEMO_STRING_MAX = 65536>`
    pub field: XdrStr<'a>,
    /// `demo_value value`
    pub value: ValueRef<'a>,
}

impl<'a> Decode<'a> for ParamRef<'a> {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            field: reader.str(DEMO_STRING_MAX)?,
            value: <ValueRef<'a>>::decode(reader)?,
        })
    }
}

/// Arguments of [`Procedure::GET`], behind `virDemoGet`.
///
/// `struct demo_get_args`
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct GetArgs {
    /// `remote_nonnull_domain dom`
    pub dom: crate::remote::NonnullDomain,
    /// `unsigned int flags`
    pub flags: u32,
}

impl Encode for GetArgs {
    fn encoded_len(&self) -> usize {
        self.dom.encoded_len() + 4
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.dom.encode(out)?;
        codec::put_u32(out, self.flags);
        Ok(())
    }
}

impl<'a> Decode<'a> for GetArgs {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            dom: crate::remote::NonnullDomain::decode(reader)?,
            flags: reader.u32()?,
        })
    }
}

#[cfg(feature = "xdr-codec")]
impl<W: std::io::Write> xdr_codec::Pack<W> for GetArgs {
    #[allow(unused_variables)]
    fn pack(&self, out: &mut W) -> xdr_codec::Result<usize> {
        Ok(self.dom.pack(out)? + self.flags.pack(out)?)
    }
}

#[cfg(feature = "xdr-codec")]
impl xdr_codec::Unpack<Reader<'_>> for GetArgs {
    fn unpack(reader: &mut Reader<'_>) -> xdr_codec::Result<(Self, usize)> {
        codec::unpack(reader)
    }
}

/// Result of [`Procedure::GET`], behind `virDemoGet`.
///
/// `struct demo_get_ret`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GetRet {
    /// `demo_shapes shapes`
    pub shapes: Shapes,
}

impl Encode for GetRet {
    fn encoded_len(&self) -> usize {
        self.shapes.encoded_len()
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.shapes.encode(out)?;
        Ok(())
    }
}

impl<'a> Decode<'a> for GetRet {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            shapes: Shapes::decode(reader)?,
        })
    }
}

#[cfg(feature = "xdr-codec")]
impl<W: std::io::Write> xdr_codec::Pack<W> for GetRet {
    #[allow(unused_variables)]
    fn pack(&self, out: &mut W) -> xdr_codec::Result<usize> {
        self.shapes.pack(out)
    }
}

#[cfg(feature = "xdr-codec")]
impl xdr_codec::Unpack<Reader<'_>> for GetRet {
    fn unpack(reader: &mut Reader<'_>) -> xdr_codec::Result<(Self, usize)> {
        codec::unpack(reader)
    }
}

/// Arguments of [`Procedure::LIST`], behind `virDemoList`.
///
/// `struct demo_list_args`
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ListArgs {
    /// `int need_results`
    pub need_results: i32,
    /// `unsigned int flags`
    pub flags: u32,
}

impl Encode for ListArgs {
    fn encoded_len(&self) -> usize {
        4 + 4
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        codec::put_words(out, [self.need_results as u32, self.flags]);
        Ok(())
    }
}

impl<'a> Decode<'a> for ListArgs {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let reader = &mut reader.part(8)?;
        Ok(Self {
            need_results: reader.i32()?,
            flags: reader.u32()?,
        })
    }
}

#[cfg(feature = "xdr-codec")]
impl<W: std::io::Write> xdr_codec::Pack<W> for ListArgs {
    #[allow(unused_variables)]
    fn pack(&self, out: &mut W) -> xdr_codec::Result<usize> {
        Ok(self.need_results.pack(out)? + self.flags.pack(out)?)
    }
}

#[cfg(feature = "xdr-codec")]
impl xdr_codec::Unpack<Reader<'_>> for ListArgs {
    fn unpack(reader: &mut Reader<'_>) -> xdr_codec::Result<(Self, usize)> {
        codec::unpack(reader)
    }
}

/// Result of [`Procedure::LIST`], behind `virDemoList`.
///
/// `struct demo_list_ret`
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ListRet {
    /// `demo_param params<DEMO_STRING_MAX = 65536>`
    pub params: Vec<Param>,
    /// `int ret`
    pub ret: i32,
}

impl Encode for ListRet {
    fn encoded_len(&self) -> usize {
        4 + self.params.iter().map(|value| value.encoded_len()).sum::<usize>() + 4
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        codec::put_count(out, self.params.len(), DEMO_STRING_MAX)?;
        for value in &self.params {
            value.encode(out)?;
        }
        codec::put_i32(out, self.ret);
        Ok(())
    }
}

impl<'a> Decode<'a> for ListRet {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            params: reader.list(DEMO_STRING_MAX, 8, Param::decode)?,
            ret: reader.i32()?,
        })
    }
}

#[cfg(feature = "xdr-codec")]
impl<W: std::io::Write> xdr_codec::Pack<W> for ListRet {
    #[allow(unused_variables)]
    fn pack(&self, out: &mut W) -> xdr_codec::Result<usize> {
        Ok(self.params.pack(out)? + self.ret.pack(out)?)
    }
}

#[cfg(feature = "xdr-codec")]
impl xdr_codec::Unpack<Reader<'_>> for ListRet {
    fn unpack(reader: &mut Reader<'_>) -> xdr_codec::Result<(Self, usize)> {
        codec::unpack(reader)
    }
}

/// `struct demo_list_ret`, borrowed from its message.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ListRetRef<'a> {
    /// `demo_param params<DEMO_STRING_MAX = 65536>`
    pub params: Vec<ParamRef<'a>>,
    /// `int ret`
    pub ret: i32,
}

impl<'a> Decode<'a> for ListRetRef<'a> {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            params: reader.list(DEMO_STRING_MAX, 8, <ParamRef<'a>>::decode)?,
            ret: reader.i32()?,
        })
    }
}

/// Arguments of [`Procedure::SET`], behind `virDemoSet`.
///
/// `struct demo_set_args`
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SetArgs {
    /// `demo_param params<4>`
    pub params: Vec<Param>,
    /// `unsigned int source`
    pub source: u32,
}

impl Encode for SetArgs {
    fn encoded_len(&self) -> usize {
        4 + self.params.iter().map(|value| value.encoded_len()).sum::<usize>() + 4
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        codec::put_count(out, self.params.len(), 4)?;
        for value in &self.params {
            value.encode(out)?;
        }
        codec::put_u32(out, self.source);
        Ok(())
    }
}

impl<'a> Decode<'a> for SetArgs {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            params: reader.list(4, 8, Param::decode)?,
            source: reader.u32()?,
        })
    }
}

#[cfg(feature = "xdr-codec")]
impl<W: std::io::Write> xdr_codec::Pack<W> for SetArgs {
    #[allow(unused_variables)]
    fn pack(&self, out: &mut W) -> xdr_codec::Result<usize> {
        Ok(self.params.pack(out)? + self.source.pack(out)?)
    }
}

#[cfg(feature = "xdr-codec")]
impl xdr_codec::Unpack<Reader<'_>> for SetArgs {
    fn unpack(reader: &mut Reader<'_>) -> xdr_codec::Result<(Self, usize)> {
        codec::unpack(reader)
    }
}

/// Arguments of [`Procedure::DOWNLOAD`], behind `virDemoDownload`.
///
/// `struct demo_download_args`
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DownloadArgs {
    /// `string path<DEMO_STRING_MAX = 65536>`
    pub path: XdrString,
    /// `unsigned int flags`
    pub flags: u32,
}

impl Encode for DownloadArgs {
    fn encoded_len(&self) -> usize {
        codec::opaque_len(self.path.len()) + 4
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        codec::put_opaque(out, self.path.as_bytes(), DEMO_STRING_MAX)?;
        codec::put_u32(out, self.flags);
        Ok(())
    }
}

impl<'a> Decode<'a> for DownloadArgs {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            path: reader.string(DEMO_STRING_MAX)?,
            flags: reader.u32()?,
        })
    }
}

#[cfg(feature = "xdr-codec")]
impl<W: std::io::Write> xdr_codec::Pack<W> for DownloadArgs {
    #[allow(unused_variables)]
    fn pack(&self, out: &mut W) -> xdr_codec::Result<usize> {
        Ok(self.path.pack(out)? + self.flags.pack(out)?)
    }
}

#[cfg(feature = "xdr-codec")]
impl xdr_codec::Unpack<Reader<'_>> for DownloadArgs {
    fn unpack(reader: &mut Reader<'_>) -> xdr_codec::Result<(Self, usize)> {
        codec::unpack(reader)
    }
}

/// Arguments of [`Procedure::UPLOAD`], behind `virDemoUpload`.
///
/// `struct demo_upload_args`
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct UploadArgs {
    /// `string path<DEMO_STRING_MAX = 65536>`
    pub path: XdrString,
}

impl Encode for UploadArgs {
    fn encoded_len(&self) -> usize {
        codec::opaque_len(self.path.len())
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        codec::put_opaque(out, self.path.as_bytes(), DEMO_STRING_MAX)?;
        Ok(())
    }
}

impl<'a> Decode<'a> for UploadArgs {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            path: reader.string(DEMO_STRING_MAX)?,
        })
    }
}

#[cfg(feature = "xdr-codec")]
impl<W: std::io::Write> xdr_codec::Pack<W> for UploadArgs {
    #[allow(unused_variables)]
    fn pack(&self, out: &mut W) -> xdr_codec::Result<usize> {
        self.path.pack(out)
    }
}

#[cfg(feature = "xdr-codec")]
impl xdr_codec::Unpack<Reader<'_>> for UploadArgs {
    fn unpack(reader: &mut Reader<'_>) -> xdr_codec::Result<(Self, usize)> {
        codec::unpack(reader)
    }
}

/// Arguments of [`Procedure::OPEN_FD`].
///
/// `struct demo_open_fd_args`
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OpenFdArgs {
    /// `int index`
    pub index: i32,
}

impl Encode for OpenFdArgs {
    fn encoded_len(&self) -> usize {
        4
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        codec::put_i32(out, self.index);
        Ok(())
    }
}

impl<'a> Decode<'a> for OpenFdArgs {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { index: reader.i32()? })
    }
}

#[cfg(feature = "xdr-codec")]
impl<W: std::io::Write> xdr_codec::Pack<W> for OpenFdArgs {
    #[allow(unused_variables)]
    fn pack(&self, out: &mut W) -> xdr_codec::Result<usize> {
        self.index.pack(out)
    }
}

#[cfg(feature = "xdr-codec")]
impl xdr_codec::Unpack<Reader<'_>> for OpenFdArgs {
    fn unpack(reader: &mut Reader<'_>) -> xdr_codec::Result<(Self, usize)> {
        codec::unpack(reader)
    }
}

/// Result of [`Procedure::TAKE_FDS`].
///
/// `struct demo_take_fds_ret`
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TakeFdsRet {
    /// `int count`
    pub count: i32,
}

impl Encode for TakeFdsRet {
    fn encoded_len(&self) -> usize {
        4
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        codec::put_i32(out, self.count);
        Ok(())
    }
}

impl<'a> Decode<'a> for TakeFdsRet {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { count: reader.i32()? })
    }
}

#[cfg(feature = "xdr-codec")]
impl<W: std::io::Write> xdr_codec::Pack<W> for TakeFdsRet {
    #[allow(unused_variables)]
    fn pack(&self, out: &mut W) -> xdr_codec::Result<usize> {
        self.count.pack(out)
    }
}

#[cfg(feature = "xdr-codec")]
impl xdr_codec::Unpack<Reader<'_>> for TakeFdsRet {
    fn unpack(reader: &mut Reader<'_>) -> xdr_codec::Result<(Self, usize)> {
        codec::unpack(reader)
    }
}

/// Message of [`Procedure::EVENT_CHANGED`].
///
/// `struct demo_event_changed_msg`
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct EventChangedMsg {
    /// `remote_nonnull_domain dom`
    pub dom: crate::remote::NonnullDomain,
    /// `int reason`
    pub reason: i32,
}

impl Encode for EventChangedMsg {
    fn encoded_len(&self) -> usize {
        self.dom.encoded_len() + 4
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.dom.encode(out)?;
        codec::put_i32(out, self.reason);
        Ok(())
    }
}

impl<'a> Decode<'a> for EventChangedMsg {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            dom: crate::remote::NonnullDomain::decode(reader)?,
            reason: reader.i32()?,
        })
    }
}

#[cfg(feature = "xdr-codec")]
impl<W: std::io::Write> xdr_codec::Pack<W> for EventChangedMsg {
    #[allow(unused_variables)]
    fn pack(&self, out: &mut W) -> xdr_codec::Result<usize> {
        Ok(self.dom.pack(out)? + self.reason.pack(out)?)
    }
}

#[cfg(feature = "xdr-codec")]
impl xdr_codec::Unpack<Reader<'_>> for EventChangedMsg {
    fn unpack(reader: &mut Reader<'_>) -> xdr_codec::Result<(Self, usize)> {
        codec::unpack(reader)
    }
}

/// Message of [`Procedure::EVENT_CALLBACK_CHANGED`].
///
/// `struct demo_event_callback_changed_msg`
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct EventCallbackChangedMsg {
    /// `int callbackID`
    pub callback_id: i32,
    /// `demo_event_changed_msg msg`
    pub msg: EventChangedMsg,
}

impl Encode for EventCallbackChangedMsg {
    fn encoded_len(&self) -> usize {
        4 + self.msg.encoded_len()
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        codec::put_i32(out, self.callback_id);
        self.msg.encode(out)?;
        Ok(())
    }
}

impl<'a> Decode<'a> for EventCallbackChangedMsg {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            callback_id: reader.i32()?,
            msg: EventChangedMsg::decode(reader)?,
        })
    }
}

#[cfg(feature = "xdr-codec")]
impl<W: std::io::Write> xdr_codec::Pack<W> for EventCallbackChangedMsg {
    #[allow(unused_variables)]
    fn pack(&self, out: &mut W) -> xdr_codec::Result<usize> {
        Ok(self.callback_id.pack(out)? + self.msg.pack(out)?)
    }
}

#[cfg(feature = "xdr-codec")]
impl xdr_codec::Unpack<Reader<'_>> for EventCallbackChangedMsg {
    fn unpack(reader: &mut Reader<'_>) -> xdr_codec::Result<(Self, usize)> {
        codec::unpack(reader)
    }
}
