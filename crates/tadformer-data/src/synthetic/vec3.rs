//! Vectors of three `f32` and rotations: what the ray caster needs and no more.

use std::ops::{Add, Mul, Neg, Sub};

/// A point, a direction or a linear RGB colour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Vec3 {
    pub(super) x: f32,
    pub(super) y: f32,
    pub(super) z: f32,
}

/// The vector `(x, y, z)`.
#[inline(always)]
pub(super) const fn vec3(x: f32, y: f32, z: f32) -> Vec3 {
    Vec3 { x, y, z }
}

impl Vec3 {
    pub(super) const ZERO: Self = vec3(0.0, 0.0, 0.0);
    pub(super) const UP: Self = vec3(0.0, 1.0, 0.0);

    #[inline(always)]
    pub(super) fn splat(v: f32) -> Self {
        vec3(v, v, v)
    }

    #[inline(always)]
    pub(super) fn dot(self, other: Self) -> f32 {
        self.x * other.x + self.y * other.y + self.z * other.z
    }

    #[inline(always)]
    pub(super) fn cross(self, other: Self) -> Self {
        vec3(
            self.y * other.z - self.z * other.y,
            self.z * other.x - self.x * other.z,
            self.x * other.y - self.y * other.x,
        )
    }

    #[inline(always)]
    pub(super) fn length(self) -> f32 {
        self.dot(self).sqrt()
    }

    /// The unit vector of this direction; the vector must not be zero.
    #[inline(always)]
    pub(super) fn unit(self) -> Self {
        self * (1.0 / self.length())
    }

    /// Element-wise product.
    #[inline(always)]
    pub(super) fn times(self, other: Self) -> Self {
        vec3(self.x * other.x, self.y * other.y, self.z * other.z)
    }

    /// Element-wise quotient.
    #[inline(always)]
    pub(super) fn over(self, other: Self) -> Self {
        vec3(self.x / other.x, self.y / other.y, self.z / other.z)
    }

    #[inline(always)]
    pub(super) fn abs(self) -> Self {
        vec3(self.x.abs(), self.y.abs(), self.z.abs())
    }

    /// Element-wise least.
    #[inline(always)]
    pub(super) fn min(self, other: Self) -> Self {
        vec3(self.x.min(other.x), self.y.min(other.y), self.z.min(other.z))
    }

    /// Element-wise largest.
    #[inline(always)]
    pub(super) fn max(self, other: Self) -> Self {
        vec3(self.x.max(other.x), self.y.max(other.y), self.z.max(other.z))
    }

    /// `self` at `t = 0`, `other` at `t = 1`.
    #[inline(always)]
    pub(super) fn mix(self, other: Self, t: f32) -> Self {
        self + (other - self) * t
    }
}

impl Add for Vec3 {
    type Output = Self;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        vec3(self.x + other.x, self.y + other.y, self.z + other.z)
    }
}

impl Sub for Vec3 {
    type Output = Self;

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        vec3(self.x - other.x, self.y - other.y, self.z - other.z)
    }
}

impl Mul<f32> for Vec3 {
    type Output = Self;

    #[inline(always)]
    fn mul(self, s: f32) -> Self {
        vec3(self.x * s, self.y * s, self.z * s)
    }
}

impl Neg for Vec3 {
    type Output = Self;

    #[inline(always)]
    fn neg(self) -> Self {
        vec3(-self.x, -self.y, -self.z)
    }
}

/// Three orthonormal axes, right-handed: a rotation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Basis {
    pub(super) x: Vec3,
    pub(super) y: Vec3,
    pub(super) z: Vec3,
}

impl Basis {
    /// Turned by `angle` radians about the vertical; at 0 the axes are those of the world.
    #[inline(always)]
    pub(super) fn yaw(angle: f32) -> Self {
        let (s, c) = angle.sin_cos();
        Self { x: vec3(c, 0.0, -s), y: Vec3::UP, z: vec3(s, 0.0, c) }
    }

    /// The same axes, laid down: local `z` points up and local `y` lies in the ground.
    #[inline(always)]
    pub(super) fn lying(self) -> Self {
        Self { x: self.x, y: -self.z, z: self.y }
    }

    /// A world direction in local coordinates.
    #[inline(always)]
    pub(super) fn to_local(self, v: Vec3) -> Vec3 {
        vec3(self.x.dot(v), self.y.dot(v), self.z.dot(v))
    }

    /// A local direction in world coordinates.
    #[inline(always)]
    pub(super) fn to_world(self, v: Vec3) -> Vec3 {
        self.x * v.x + self.y * v.y + self.z * v.z
    }
}

/// A half line; `direction` is a unit vector, so that the parameter is a distance in metres.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ray {
    pub(super) origin: Vec3,
    pub(super) direction: Vec3,
}

impl Ray {
    #[inline(always)]
    pub(super) fn at(&self, t: f32) -> Vec3 {
        self.origin + self.direction * t
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotations_are_right_handed_and_undo_themselves() {
        for angle in [0.0f32, 0.7, 2.5, -1.2] {
            for basis in [Basis::yaw(angle), Basis::yaw(angle).lying()] {
                assert!((basis.x.cross(basis.y) - basis.z).length() < 1e-6);
                let v = vec3(0.3, -1.2, 2.0);
                assert!((basis.to_world(basis.to_local(v)) - v).length() < 1e-5);
            }
        }
    }
}
